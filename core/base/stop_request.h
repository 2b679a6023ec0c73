// SIGTERM and SIGINT as something to wait for.
#ifndef ATTNPRUNE_CORE_BASE_STOP_REQUEST_H_
#define ATTNPRUNE_CORE_BASE_STOP_REQUEST_H_

namespace attnprune {

// From here on the first SIGTERM or SIGINT is for WaitForStopRequest, and a second one ends the
// process at once with exit code 128 + its number. Handlers rather than a blocked mask and sigwait:
// OpenBLAS starts threads before main does, and in these the signals would not be blocked.
// SIGPIPE is ignored: output that nobody reads must not end the program. Call once, first in main.
void CatchStopRequests();

// Returns the signal's number.
int WaitForStopRequest();

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_BASE_STOP_REQUEST_H_
