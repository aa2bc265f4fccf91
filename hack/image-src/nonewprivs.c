// Installed with the set-user-id bit: tells whether that bit worked, which no_new_privs must prevent.
#include <stdio.h>
#include <unistd.h>

int main(void) {
  printf("Effective uid: %d\n", (int)geteuid());
  return 0;
}
