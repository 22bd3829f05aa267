// One holder at a time of what a folder stands for, on every file system that makes files
// exclusively and renames them: no lock of the system is asked for, since network file systems have
// some that lie.
//
// PATH names the holder. A thread renews its time of change; a file that is not renewed is free
// after `seconds`, judged by the clock of its own file system and by watching it, so that no clock
// that steps hands a lease to two. A holder on this machine that is gone frees it at once.
// Who takes over makes PATH.TERM, TERM one more than that of the last holder, looks whether all is
// as it was judged, and renames it to PATH: of two who try, one makes that file.
#pragma once

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>

#include "base/error.h"

namespace nfscale {

class Lease {
 public:
  // Exit::usage, "WHAT is held by another nfscale: host H, process P ...", where it is held. A
  // holder on another machine of which nothing is heard is waited for, up to `seconds`.
  Lease(Path path, std::string what, double seconds = 60);
  ~Lease();  // gives it back
  Lease(const Lease&) = delete;
  Lease& operator=(const Lease&) = delete;

  // Before anything is written that only the holder may write: Exit::usage, in the same words, once
  // another one holds it.
  void check() const;
  // Whether the thread that renews it has found that out; costs nothing.
  bool is_lost() const { return lost_; }

 private:
  void take();
  void renew();
  bool is_mine() const;

  Path path_;
  std::string what_;
  double seconds_;
  std::string nonce_;
  int fd_ = -1;
  std::mutex mutex_;
  std::condition_variable ended_;
  bool over_ = false;
  std::atomic<bool> lost_ = false;
  std::thread thread_;
};

// "host H, process P, since TIME" of a holder that is at work or may be: of this machine, one whose
// process lives; of another one, one that renewed its lease in time. Why not, where it cannot be
// told: a full disk frees nobody.
std::optional<std::string> lease_holder(const Path& path);

}  // namespace nfscale
