/** The walls around the watcher of resolv.conf. */
#pragma once

namespace launcher {

/** helper-seal.h, with the calls that the comments in resolver-*.cc name. */
void sealWatcher();

}  // namespace launcher
