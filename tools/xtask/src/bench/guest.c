// The guest of the benchmark: prints a line, then powers off, or stays if the kernel's command line says bench=idle.
// In C, because it has to be static and needs nothing but three calls; the compiler is there for linking Rust anyway.
#include <stdlib.h>
#include <string.h>
#include <sys/reboot.h>
#include <unistd.h>

int main(void)
{
	static const char line[] = "husk-bench: first line\n";
	const char *mode = getenv("bench");

	if (write(STDOUT_FILENO, line, sizeof(line) - 1) < 0)
		return 1;
	while (mode && strcmp(mode, "idle") == 0)
		pause();
	return reboot(RB_POWER_OFF);
}
