// hugepages COUNT: touches so many huge pages of 2 MiB. The kernel answers more than the group may have with SIGBUS.
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

int main(int argc, char **argv) {
    size_t page = 2 << 20;
    int count = argc > 1 ? atoi(argv[1]) : 1;
    char *memory = mmap(NULL, count * page, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) {
        perror("mmap");
        return 1;
    }
    for (int i = 0; i < count; i++)
        memory[i * page] = 1;
    printf("touched %d\n", count);
    return 0;
}
