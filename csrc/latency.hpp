// How far apart the threads of the process are: what the time between their cores makes of a meeting differs
// more between processors than anything else of it, and on a virtual machine from one minute to the next.
#pragma once

namespace pyrnn::latency {

// Nanoseconds from one thread's store to another's answer to it, halved; 0 where no call has measured it of late.
long long known_ns();
// Whether a call on several threads should measure it; `now` as now_ns() gives it.
bool due(long long now);
void note(long long ns);

}  // namespace pyrnn::latency
