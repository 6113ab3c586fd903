/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What may be typed next, for the completion functions of shells.
 */
#ifndef MINIVMM_CTL_COMPLETE_H
#define MINIVMM_CTL_COMPLETE_H

/*
 * `words` are those of the command line behind the program's name, the last being begun, or empty.
 * Prints what may stand in its place, a line each; nothing where it is the name of a file. VMs that
 * do not answer at once are passed over. Returns the exit status.
 */
int complete(int nwords, char **words);

#endif
