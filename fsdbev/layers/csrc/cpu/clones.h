// FSDBEV_CLONES before a function: compiled several times, for the vector instructions of newer CPUs
// too, and chosen when the library is loaded. A plain build then runs at full speed on any machine,
// and with the same results, since no multiply-add is fused.
#pragma once

// The choice needs ifunc (glibc); it runs before AddressSanitizer is ready.
#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__SANITIZE_ADDRESS__)
#define FSDBEV_CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define FSDBEV_CLONES
#endif

// A body that each clone takes in and compiles for its instructions.
#if defined(__GNUC__)
#define FSDBEV_INLINE inline __attribute__((always_inline))
#else
#define FSDBEV_INLINE inline
#endif
