/*
 * The smallest first user process: it reports the time stamp counter at its
 * first instruction, and restarts the machine (which ends QEMU with -no-reboot).
 * Under `-icount shift=0` the counter counts instructions. See measure.sh.
 */
static long call(long number, long a, long b, long c)
{
	long result;

	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "a"(number), "D"(a), "S"(b), "d"(c)
			 : "rcx", "r11", "memory");
	return result;
}

void _start(void)
{
	unsigned low, high;

	__asm__ volatile("rdtsc" : "=a"(low), "=d"(high));

	unsigned long count = (unsigned long)high << 32 | low;
	char text[48] = "\nFIRST-USER ";
	char digits[24];
	int length = 12, n = 0;

	do {
		digits[n++] = '0' + count % 10;
		count /= 10;
	} while (count);
	while (n)
		text[length++] = digits[--n];
	text[length++] = '\n';
	call(1, 1, (long)text, length);	/* write */
	call(169, 0xfee1dead, 672274793, 0x01234567);	/* reboot, restart */
	for (;;)
		;
}
