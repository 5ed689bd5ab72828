/* A BLAS that sums in another order for each shape: what the kernels of some processor may do.

   Each matrix product is split along the axis of its sums, at an index that follows from its sizes;
   the last rows of a product, as in the tail of a kernel, are split elsewhere than those before.
   All results are right to rounding, and equal calls give equal bits. So a test that fails with it
   takes the bits of a batch for those of another batch size. With NumPy's wheels for Linux:

       gcc -O2 -shared -fPIC -o other_blas.so tests/support/other_blas.c
       BLAS=$(ls .../numpy.libs/libscipy_openblas64_*.so) LD_PRELOAD=./other_blas.so pytest
*/
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

typedef int64_t Int;
enum { ROW_MAJOR = 101, NO_TRANS = 111 };

static void *find(const char *name) {
    void *library = dlopen(getenv("BLAS"), RTLD_LAZY | RTLD_NOLOAD);
    void *found = library ? dlsym(library, name) : NULL;
    if (!found) {
        fprintf(stderr, "other_blas: no %s in BLAS=%s\n", name, getenv("BLAS"));
        abort();
    }
    return found;
}

/* Return the length of the first part of a sum of n terms: all of it where n is 1. */
static Int split(Int n, Int a, Int b, Int c) {
    uint64_t hash = 0x9E3779B97F4A7C15u * (uint64_t)(n + 31 * a + 1009 * b + 65537 * c + 1);
    return n < 2 ? n : 1 + (Int)((hash >> 33) % (uint64_t)(n - 1));
}

#define REAL(name) \
    static __typeof__(scipy_cblas_##name##64_) *real; \
    if (!real) real = find("scipy_cblas_" #name "64_")

#define DEFINE(T, t) \
    T scipy_cblas_##t##dot64_(Int n, const T *x, Int dx, const T *y, Int dy) { \
        REAL(t##dot); \
        Int m = split(n, dx, dy, 0); \
        T first = real(m, x, dx, y, dy); \
        return m < n ? first + real(n - m, x + m * dx, dx, y + m * dy, dy) : first; \
    } \
    void scipy_cblas_##t##gemv64_(int order, int trans, Int rows, Int columns, T alpha, \
                                  const T *a, Int lda, const T *x, Int dx, T beta, T *y, Int dy) { \
        REAL(t##gemv); \
        int plain = trans == NO_TRANS; \
        Int n = plain ? columns : rows, m = split(n, rows, columns, trans); \
        Int step = plain == (order == ROW_MAJOR) ? 1 : lda; \
        real(order, trans, plain ? rows : m, plain ? m : columns, alpha, a, lda, x, dx, beta, y, dy); \
        if (m < n) \
            real(order, trans, plain ? rows : n - m, plain ? n - m : columns, alpha, a + m * step, \
                 lda, x + m * dx, dx, 1, y, dy); \
    } \
    void scipy_cblas_##t##gemm64_(int order, int ta, int tb, Int rows, Int columns, Int n, T alpha, \
                                  const T *a, Int lda, const T *b, Int ldb, T beta, T *c, Int ldc) { \
        REAL(t##gemm); \
        if (order != ROW_MAJOR) abort(); \
        Int at = 0, most = rows - rows % 4; \
        for (Int stop = most ? most : rows; at < rows; at = stop, stop = rows) { \
            Int m = split(n, rows, columns, at); \
            const T *first = a + at * (ta == NO_TRANS ? lda : 1); \
            T *out = c + at * ldc; \
            real(order, ta, tb, stop - at, columns, m, alpha, first, lda, b, ldb, beta, out, ldc); \
            if (m < n) \
                real(order, ta, tb, stop - at, columns, n - m, alpha, \
                     first + m * (ta == NO_TRANS ? 1 : lda), lda, \
                     b + m * (tb == NO_TRANS ? ldb : 1), ldb, 1, out, ldc); \
        } \
    } \
    void scipy_cblas_##t##syrk64_(int order, int part, int trans, Int rows, Int n, T alpha, \
                                  const T *a, Int lda, T beta, T *c, Int ldc) { \
        REAL(t##syrk); \
        if (order != ROW_MAJOR) abort(); \
        Int m = split(n, rows, trans, 1); \
        real(order, part, trans, rows, m, alpha, a, lda, beta, c, ldc); \
        if (m < n) \
            real(order, part, trans, rows, n - m, alpha, a + m * (trans == NO_TRANS ? 1 : lda), lda, \
                 1, c, ldc); \
    }

DEFINE(float, s)
DEFINE(double, d)
