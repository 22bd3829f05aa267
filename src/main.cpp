// The program's only catch of Error: one line on standard error and the exit code of the contract.
#include <malloc.h>

#include <csignal>
#include <exception>

#include "base/log.h"
#include "cli/command.h"

int main(int argc, char** argv) {
  using nfscale::Exit;
  std::signal(SIGPIPE, SIG_IGN);
  // Activations are freed and taken again in every step: without this their pages go back to the
  // system each time and are cleared again.
  ::mallopt(M_MMAP_THRESHOLD, 1 << 30);
  ::mallopt(M_TRIM_THRESHOLD, -1);
  Exit code = Exit::ok;
  try {
    nfscale::run_command_line(argc, argv);
  } catch (const nfscale::Error& e) {
    code = e.code;
    nfscale::end_live();
    if (*e.what()) nfscale::log_line(nfscale::LogLevel::error, e.what());
  } catch (const std::bad_alloc&) {
    code = Exit::system;
    nfscale::end_live();
    nfscale::log_line(nfscale::LogLevel::error, "out of memory");
  } catch (const std::exception& e) {
    code = Exit::defect;
    nfscale::end_live();
    const std::string text = e.what();  // libtorch appends its stack trace after the first line
    nfscale::log_line(nfscale::LogLevel::error, "defect: " + text.substr(0, text.find('\n')));
  }
  // libtorch's threads are not joined by destructors that run in an order of their own.
  std::fflush(nullptr);
  std::_Exit(static_cast<int>(code));
}
