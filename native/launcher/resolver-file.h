/** resolv.conf as a file that others replace: where it really is, and what it holds once it is whole. */
#pragma once

#include <string>
#include <vector>

namespace launcher {

/** Longest content that is passed on, bytes; what is longer is cut after a whole line. */
inline constexpr size_t resolverBytesMax = 64 * 1024;

/** What has to be watched to notice that another file, or another content, is found under a path. */
struct ResolverPlaces {
  /** Directories on the way, along symbolic links; of one that does not exist, the nearest one above that does. */
  std::vector<std::string> directories;
  /** Names in them that matter. */
  std::vector<std::string> names;
};

ResolverPlaces findPlaces(const std::string& path);

struct ResolverContent {
  /** Empty as well when there is no file, or it is none that can be read. */
  std::string text;
  /** Whether it looks as if it had been written to its end. */
  bool whole = false;
};

ResolverContent readResolvers(const std::string& path);

}  // namespace launcher
