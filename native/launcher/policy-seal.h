/** The walls around the opener of the policy's file. */
#pragma once

namespace launcher {

/** helper-seal.h, with the calls that the comments in policy-*.cc name. */
void sealOpener();

}  // namespace launcher
