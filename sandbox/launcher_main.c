/* SPDX-License-Identifier: MIT */

/*
 * clove-launcher, a program of its own
 *
 * It is copied by fork for every agent, and the copy stays as the init of the agent's box. The kernel's program,
 * with all its libraries, cost a quarter of a spawn more, and more memory for each agent. For the same reason
 * it is linked statically where the system has the archives.
 */

#include <stdio.h>
#include <stdlib.h>

#include "sandbox/launcher.h"

int main(int argc, char **argv)
{
	if (argc == 2)
		return launcher_main(argv[1]);
	(void)fputs("clove-launcher is started by clove_kernel, and is of no use without it.\n",
		    stderr);
	return EXIT_FAILURE;
}
