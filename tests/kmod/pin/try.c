// SPDX-License-Identifier: GPL-2.0
/* Compiles where pin_user_pages still has its argument vmas; see Kbuild. */
#include <linux/mm.h>

long try_pin(unsigned long start, struct page **pages);
long try_pin(unsigned long start, struct page **pages)
{
	return pin_user_pages(start, 1, FOLL_WRITE, pages, NULL);
}
