#include "data/tar.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/text.h"

namespace nfscale {
namespace {

using namespace std::string_view_literals;

constexpr uint64_t kBlock = 512;
constexpr uint64_t kMostExtended = 1 << 20;  // bytes of one extended header

std::string_view field(std::string_view block, size_t at, size_t size) {
  return block.substr(at, size);
}

std::string_view until_nul(std::string_view text) {
  return text.substr(0, text.find('\0'));
}

// An octal number with spaces or NULs around it, or one in base 256.
std::optional<uint64_t> number(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  uint64_t value = 0;
  if (byte(0) & 0x80) {
    value = byte(0) & 0x3F;
    if (byte(0) & 0x40) return std::nullopt;  // negative
    for (size_t i = 1; i < text.size(); ++i) {
      if (value >> 55) return std::nullopt;
      value = value << 8 | byte(i);
    }
    return value;
  }
  while (!text.empty() && (text.front() == ' ' || text.front() == '\0')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\0')) text.remove_suffix(1);
  for (const char c : text) {
    if (c < '0' || c > '7') return std::nullopt;
    value = value << 3 | static_cast<uint64_t>(c - '0');
  }
  return value;
}

bool all_zero(std::string_view block) {
  return block.find_first_not_of('\0') == std::string_view::npos;
}

// The sum of all bytes with the checksum's own field as spaces; some old programs summed signed
// bytes.
bool checksum_holds(std::string_view block) {
  int64_t plain = 0, with_sign = 0;
  for (size_t i = 0; i < block.size(); ++i) {
    const char c = i >= 148 && i < 156 ? ' ' : block[i];
    plain += static_cast<unsigned char>(c);
    with_sign += static_cast<signed char>(c);
  }
  const auto stored = number(field(block, 148, 8));
  return stored &&
         (static_cast<int64_t>(*stored) == plain || static_cast<int64_t>(*stored) == with_sign);
}

std::string name_of(std::string_view block) {
  std::string name(until_nul(field(block, 0, 100)));
  if (field(block, 257, 6) == "ustar\0"sv) {
    const std::string_view prefix = until_nul(field(block, 345, 155));
    if (!prefix.empty()) name = std::string(prefix) + "/" + name;
  }
  return name;
}

std::string_view compression_of(std::string_view b) {
  if (b.starts_with("\x1F\x8B"sv)) return "gzip";
  if (b.starts_with("\x28\xB5\x2F\xFD"sv)) return "zstd";
  if (b.starts_with("BZh"sv)) return "bzip2";
  if (b.starts_with("\xFD"
                    "7zXZ"sv))
    return "xz";
  return "";
}

uint64_t padded(uint64_t size) {
  return (size + kBlock - 1) / kBlock * kBlock;
}

}  // namespace

TarReader::TarReader(uint64_t file_size, ReadAt read) : size_(file_size), read_(std::move(read)) {}

std::nullopt_t TarReader::stop(uint64_t offset, std::string member, std::string text) {
  done_ = true;
  fault_ = Fault{offset, std::move(member), std::move(text)};
  return std::nullopt;
}

// Records "LENGTH KEY=VALUE\n".
bool TarReader::read_pax(const TarMember& header, Extended& into) {
  // A copy: read_ keeps its bytes only until the next call.
  const std::string text(read_(header.offset, static_cast<size_t>(header.size)));
  std::string_view rest = text;
  while (!rest.empty()) {
    if (all_zero(rest)) return true;
    const size_t space = rest.find(' ');
    const auto length =
        space == std::string_view::npos ? std::nullopt : parse_int(rest.substr(0, space));
    if (!length || *length < static_cast<int64_t>(space) + 3 ||
        static_cast<uint64_t>(*length) > rest.size() ||
        rest[static_cast<size_t>(*length) - 1] != '\n')
      return false;
    const auto end = static_cast<size_t>(*length);
    const std::string_view record = rest.substr(space + 1, end - space - 2);
    const size_t equals = record.find('=');
    if (equals == std::string_view::npos) return false;
    const std::string_view key = record.substr(0, equals), value = record.substr(equals + 1);
    if (key == "path") {
      into.name = std::string(value);
    } else if (key == "size") {
      const auto size = parse_int(value);
      if (!size || *size < 0) return false;
      into.size = static_cast<uint64_t>(*size);
    } else if (key.starts_with("GNU.sparse.")) {
      into.sparse = true;
    }
    rest.remove_prefix(end);
  }
  return true;
}

// Behind the first zero block there may be padding, but no second archive.
bool TarReader::end_is_clean() {
  for (uint64_t at = at_; at < size_; at += kBlock) {
    const std::string_view block = read_(at, kBlock);
    if (block.empty()) return true;
    if (all_zero(block)) continue;
    if (block.size() < kBlock || !checksum_holds(block)) return true;  // rubbish, not members
    stop(at, name_of(block),
         "another archive follows the end of this one; joined tars are not read, pack them anew");
    return false;
  }
  return true;
}

std::optional<TarMember> TarReader::next() {
  if (done_) return std::nullopt;
  if (at_ == 0) {
    const std::string_view begin = read_(0, kBlock);
    if (begin.empty()) return stop(0, "", "no bytes at all, so not a tar file");
    if (const auto packed = compression_of(begin); !packed.empty())
      return stop(0, "",
                  fmt::format("compressed ({}): compressed shards cannot be read at random; unpack "
                              "them",
                              packed));
  }
  Extended own;
  std::optional<uint64_t> first_header;
  for (;;) {
    const uint64_t header_at = at_;
    if (at_ == size_ && !first_header) {
      done_ = missing_end_ = true;
      return std::nullopt;
    }
    // A copy: reading extended headers invalidates it.
    const std::string block(read_(at_, kBlock));
    if (block.size() < kBlock)
      return stop(header_at, "", "the file ends in the middle of a header");
    if (all_zero(block)) {
      done_ = true;
      end_is_clean();
      return std::nullopt;
    }
    if (!checksum_holds(block))
      return stop(header_at, "", "the checksum of a header does not hold");

    TarMember m;
    m.name = name_of(block);
    m.header = first_header.value_or(header_at);
    m.offset = header_at + kBlock;
    const char type = block[156];
    const bool extended = type == 'x' || type == 'g' || type == 'L' || type == 'K';
    if (!extended) {
      if (own.name || global_.name) m.name = own.name ? *own.name : *global_.name;
      m.name = std::string(until_nul(m.name));
    }
    const auto size = number(std::string_view(block).substr(124, 12));
    if (!size) return stop(header_at, m.name, "the size is not a number");
    m.size = *size;
    if (!extended && own.size) m.size = *own.size;
    if (!extended && !own.size && global_.size) m.size = *global_.size;
    // Links, folders and devices have no bytes, whatever their size says.
    const bool empty = type >= '1' && type <= '6';
    if (empty) m.size = 0;
    if (m.size > size_ - m.offset)
      return stop(
          header_at, m.name,
          fmt::format("{} bytes are declared, the file has {} more", m.size, size_ - m.offset));
    at_ = std::min(size_, m.offset + padded(m.size));

    if (extended) {
      first_header = m.header;
      if (m.size > kMostExtended)
        return stop(
            header_at, m.name,
            fmt::format("an extended header of {} bytes, {} are allowed", m.size, kMostExtended));
      if (type == 'L') {
        own.name = std::string(until_nul(read_(m.offset, static_cast<size_t>(m.size))));
      } else if (type != 'K' && !read_pax(m, type == 'x' ? own : global_)) {
        return stop(header_at, m.name, "an extended header that cannot be read");
      }
      continue;
    }
    if (type == 'S' || own.sparse || global_.sparse)
      m.kind = TarMember::Kind::sparse;
    else if (type == '1' || type == '2')
      m.kind = TarMember::Kind::link;
    else if (type == '5' || ((type == '\0' || type == '0') && m.name.ends_with('/')))
      m.kind = TarMember::Kind::folder;
    else if (type != '\0' && type != '0' && type != '7')
      m.kind = TarMember::Kind::device;
    return m;
  }
}

}  // namespace nfscale
