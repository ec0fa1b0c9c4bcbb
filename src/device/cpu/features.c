/* What the processor can do, and what of it the kernels may use.
 *
 * On x86 asked of CPUID directly, since compilers differ in which names they know. An instruction
 * set counts only when the system saves its registers too (XCR0); the tiles of AMX must moreover be
 * asked for once a process, and a system that refuses has no AMX. */
#include "device/cpu/cpu.h"

#include <stdlib.h>
#include <string.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif
#if defined(__aarch64__) && defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

#define ALL_AVX512 (CPU_AVX2 | CPU_AVX512 | CPU_AVX512_VNNI | CPU_AVX512_BF16 | CPU_AVX512_POPCNT)

static pthread_once_t asked = PTHREAD_ONCE_INIT;
static unsigned features;

#if defined(__x86_64__)

#define STATE_AVX 0x6u            /* XMM, YMM */
#define STATE_AVX512 0xe6u        /* those, masks, ZMM */
#define STATE_TILES 0x60000u      /* tile configuration, tile data */
#define REQUEST_PERMISSION 0x1023 /* ARCH_REQ_XCOMP_PERM */
#define TILE_DATA 18

static unsigned saved_state(void) {
    unsigned low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

static bool bit(unsigned word, int i) {
    return word >> i & 1;
}

static bool may_use_tiles(void) {
#if defined(__linux__)
    return syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0;
#else
    return false;
#endif
}

static unsigned ask(void) {
    unsigned found = 0;
    unsigned a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !bit(c, 27))
        return 0;
    unsigned state = saved_state();
    bool fma = bit(c, 12) && bit(c, 29);
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d))
        return 0;
    unsigned n_leaves = a;
    if ((state & STATE_AVX) == STATE_AVX && fma && bit(b, 5))
        found |= CPU_AVX2;
    bool avx512 = bit(b, 16) && bit(b, 17) && bit(b, 30) && bit(b, 31);
    if (!(found & CPU_AVX2) || !avx512 || (state & STATE_AVX512) != STATE_AVX512)
        return found;
    found |= CPU_AVX512;
    if (bit(c, 11))
        found |= CPU_AVX512_VNNI;
    if (bit(c, 14))
        found |= CPU_AVX512_POPCNT;
    bool tiles = bit(d, 24) && (state & STATE_TILES) == STATE_TILES && may_use_tiles();
    if (tiles && bit(d, 25))
        found |= CPU_AMX_INT8;
    if (tiles && bit(d, 22))
        found |= CPU_AMX_BF16;
    if (n_leaves >= 1 && __get_cpuid_count(7, 1, &a, &b, &c, &d) && bit(a, 5))
        found |= CPU_AVX512_BF16;
    return found;
}

#elif defined(__aarch64__)

static unsigned ask(void) {
#if defined(__linux__)
    return getauxval(AT_HWCAP) & HWCAP_ASIMDDP ? CPU_NEON | CPU_NEON_DOT : CPU_NEON;
#elif defined(__ARM_FEATURE_DOTPROD)
    return CPU_NEON | CPU_NEON_DOT;
#else
    return CPU_NEON;
#endif
}

#else

static unsigned ask(void) {
    return 0;
}

#endif

static void ask_once(void) {
    static const struct {
        const char *name;
        unsigned allowed;
    } levels[] = {{"plain", 0}, {"avx2", CPU_AVX2}, {"avx512", ALL_AVX512}, {"amx", ~0u}};
    features = ask();
    const char *name = getenv("DOCUSEARCH_KERNELS");
    if (!name || !*name)
        return;
    for (size_t i = 0; i < BASE_COUNT(levels); i++) {
        if (strcmp(name, levels[i].name) == 0) {
            features &= levels[i].allowed;
            return;
        }
    }
    log_warn("DOCUSEARCH_KERNELS is '%s', not plain, avx2, avx512 or amx: all kernels are used",
             name);
}

unsigned cpu_features(void) {
    pthread_once(&asked, ask_once);
    return features;
}
