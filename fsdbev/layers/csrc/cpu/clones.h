// FSDBEV_CLONES compiles a function for several instruction sets; one is selected when the library is
// loaded. A default build then uses the vector instructions of newer CPUs, with the same results,
// since multiply-adds are not fused.
#pragma once

// Selection needs ifunc (glibc). It runs before AddressSanitizer is initialised, hence not with it.
#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__SANITIZE_ADDRESS__)
#define FSDBEV_CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define FSDBEV_CLONES
#endif

// A function body to inline into each clone, so that it is compiled for its instruction set.
#if defined(__GNUC__)
#define FSDBEV_INLINE inline __attribute__((always_inline))
#else
#define FSDBEV_INLINE inline
#endif
