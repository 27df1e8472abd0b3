/** The versions of the Container Network Interface that are spoken. */
#pragma once

#include <algorithm>
#include <array>
#include <string_view>

namespace cni {

/** In the order of time. */
constexpr std::array<std::string_view, 7> supportedVersions = {"0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"};

constexpr std::string_view newestVersion = supportedVersions.back();

/** What a configuration without a version is in (it was not required in 0.1.0). */
constexpr std::string_view oldestVersion = supportedVersions.front();

constexpr bool isSupported(std::string_view version) {
  return std::find(supportedVersions.begin(), supportedVersions.end(), version) != supportedVersions.end();
}

/** Whether a supported version is at least as new as another. */
constexpr bool isAtLeast(std::string_view version, std::string_view other) {
  return std::find(supportedVersions.begin(), supportedVersions.end(), version) >=
         std::find(supportedVersions.begin(), supportedVersions.end(), other);
}

/** Results look alike within 0.1 and 0.2, within 0.3 and 0.4, and within 1.x. */
constexpr int resultForm(std::string_view version) {
  if (!isAtLeast(version, "0.3.0")) return 0;
  return isAtLeast(version, "1.0.0") ? 2 : 1;
}

}  // namespace cni
