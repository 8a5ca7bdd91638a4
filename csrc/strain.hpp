// What the process remembers of how busy the machine is. A call whose threads waited for one that the
// system had put aside is a strike: the calls that follow run on one thread for a while, then one of them
// tries again.
#pragma once

namespace pyrnn::strain {

// Whether calls should run on one thread now.
bool lasts();
// Whether anything here has an effect: tests of many threads on few processors switch it off.
bool heeded();
void heed(bool on);
// After each run on several threads.
void note(bool strained);

}  // namespace pyrnn::strain
