// SIGTERM, SIGINT and SIGHUP as something to wait for.
#ifndef ATTNPRUNE_CORE_IO_STOP_REQUEST_H_
#define ATTNPRUNE_CORE_IO_STOP_REQUEST_H_

namespace attnprune {

// From here on the first `waited_for` (1 to 16) of SIGTERM and SIGINT are for WaitForStopRequest,
// and the next one ends the process at once with exit code 128 + its number. Handlers rather than a
// blocked mask and sigwait: OpenBLAS starts threads before main does, and in these the signals
// would not be blocked. SIGPIPE is ignored: output that nobody reads must not end the program. Call
// once, first in main.
void CatchStopRequests(int waited_for = 1);

// From here on SIGHUP, too, is for WaitForStopRequest, and never ends the process; those that come
// before one is waited for are one. After CatchStopRequests.
void CatchHangups();

// Returns the number of the first signal, then of the next. On one thread.
int WaitForStopRequest();

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_IO_STOP_REQUEST_H_
