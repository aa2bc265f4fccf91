// A sandbox's first process for runtimes that need one: waits for a signal to end, reaps what it inherits.
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>

int main(void) {
  sigset_t set;
  int signal_number;
  sigfillset(&set);
  sigprocmask(SIG_BLOCK, &set, NULL);
  for (;;) {
    if (sigwait(&set, &signal_number) != 0) return 1;
    if (signal_number == SIGINT || signal_number == SIGTERM) return 0;
    if (signal_number == SIGCHLD)
      while (waitpid(-1, NULL, WNOHANG) > 0) {
      }
  }
}
