/* SPDX-License-Identifier: MIT */

/*
 * Tests of sandbox/box_*.c: what a program sees in its box, and what it cannot do there
 */

#include "tests/unit/sandbox/box.h"

static void program_sees_its_box_and_nothing_of_the_host(void **state)
{
	expect_in_box(*state, "id -u; id -g; id -un; hostname; pwd; echo $HOME; ls /",
		      "1000\n1000\nagent\nbox\n/workspace\n/workspace\n"
		      "bin\ndev\netc\nlib\nlib32\nlib64\nproc\nsbin\ntmp\nusr\nworkspace\n");
}

#define BOX_TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		BOX_TEST(program_sees_its_box_and_nothing_of_the_host),
	};

	(void)argc;
	fixture_launcher_main(argv);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
