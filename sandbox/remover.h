/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Remover: deletes what agents have left, whoever owns it
 *
 * The kernel has no rights over files of its agents' uids; it renames their directories into one of its own,
 * the trash, which a process with the launcher's rights then empties.
 */

/*
 * Deletes everything in the directory @dir, which nobody else may change but by adding to it. In constant memory
 * and depth: a directory's directories are moved up into @dir, to have their turn there. Goes on past what cannot
 * be deleted. 0, or -errno of the first such.
 */
int remover_empty(int dir);

/* The process itself, called by the launcher in a fresh child: answers READY on @sock when it is done. */
_Noreturn void remover_run(int sock, int dir);
