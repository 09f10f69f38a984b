#!/bin/sh
# Instructions and time from the start of QEMU to the first user process, under emulation.
#
#   measure.sh KERNEL [COMMAND LINE [MACHINE OPTIONS [CPU]]]
#
# Without a command line it takes the one of README.md. KERNEL is an uncompressed vmlinux.
set -eu
kernel=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
here=$(dirname "$0")

gcc -O1 -static -nostdlib -ffreestanding -fno-stack-protector -o "$work/init" "$here/init.c"
mkdir "$work/root" "$work/root/dev"
cp "$work/init" "$work/root/init"
mknod "$work/root/dev/console" c 5 1 2>/dev/null || true
(cd "$work/root" && find . | cpio -o -H newc --quiet) >"$work/init.cpio"

# kHz of the host's time stamp counter, which an emulated guest reads.
cat >"$work/tsc.c" <<'C'
#include <stdio.h>
#include <time.h>
#include <x86intrin.h>
static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC_RAW, &t);
	return t.tv_sec * 1e9 + t.tv_nsec;
}
int main(void)
{
	double t = now();
	unsigned long c = __rdtsc();
	struct timespec wait = { 0, 50000000 };
	nanosleep(&wait, 0);
	c = __rdtsc() - c;
	printf("%.0f\n", c / (now() - t) * 1e6);
}
C
gcc -O1 -o "$work/tsc" "$work/tsc.c"
host=$("$work/tsc")

clocks() { # kHz of the counter
	echo "tsc_early_khz=$1 lpj=$(($1 * 4)) lapic_timer_khz=1000000"
}
fixed="quiet tsc=reliable no_timer_check noreplace-smp keep_initmem=1 swiotlb=noforce"
boot() { # kHz, processors, command line, more arguments ...
	khz=$1 cpus=$2 line=$3
	shift 3
	[ "$line" != default ] || line="$fixed $(clocks "$khz")"
	timeout 120 qemu-system-x86_64 -M "microvm,acpi=off,isa-serial=on${machine}" -accel tcg \
		-cpu "$cpu" -m 512 -smp "$cpus" -kernel "$kernel" -initrd "$work/init.cpio" \
		-append "console=ttyS0 reboot=t panic=-1 $line" -nodefaults -no-user-config \
		-no-reboot -display none -serial stdio "$@" </dev/null 2>/dev/null
}
line=${2:-default} machine=${3-,pit=off,pic=off} cpu=${4:-max,-erms}

printf 'instructions, 1 processor:  '
boot 1000000 1 "$line" -icount shift=0,sleep=off | sed -n 's/FIRST-USER //p'
for cpus in 1 2; do
	for _ in 1 2 3 4 5 6 7 8 9 10; do
		start=$(date +%s%N)
		boot "$host" $cpus "$line" >/dev/null
		echo $((($(date +%s%N) - start) / 1000000))
	done | sort -n | sed -n '5p' | sed "s/^/ms, $cpus processor(s), median: /"
done
