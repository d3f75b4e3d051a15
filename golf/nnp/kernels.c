/* Loops of PaiNN that a CPU spends its time on apart from matrix products: see golf/nnp/kernels.py.
 *
 * Compiled for float, and with DOUBLE defined for double. F features, A atoms, U undirected pairs i < j; rows are contiguous:
 *   q  [A, F]      scalar features
 *   mu [A, 3, F]   vector features
 *   x  [A, n F]    what atoms send: to scalars, along the pair, along their own vectors (n = 3; the last one is absent
 *                  for n = 2, where atoms have no vectors yet)
 *   w  [U, n F]    filters of the pairs
 *   u  [U, 3]      unit vectors from i to j
 * A name with g is a gradient of the energy, one with h a gradient of a function of such gradients (double backward).
 */
#include <math.h>
#include <stdint.h>

#ifdef DOUBLE
typedef double REAL;
#define SQRT sqrt
#define EXP exp
#else
typedef float REAL;
#define SQRT sqrtf

/* exp within 2 units in the last place, written so that a compiler vectorizes it; NaN stays NaN. */
static inline float EXP(float x)
{
    float bounded = x < -87.0f ? -87.0f : x > 88.0f ? 88.0f : x;
    float n = rintf(bounded * 1.44269504f);
    float r = bounded - n * 0.693359375f + n * 2.12194440e-4f; /* ln 2 in two parts */
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    union { int32_t bits; float value; } scale = {((int32_t)n + 127) << 23};
    return (p * r * r + r + 1.0f) * scale.value;
}
#endif

#define SIMD _Pragma("omp simd")
#define SUMS(...) _Pragma(#__VA_ARGS__)

static inline REAL dot(const REAL *a, const REAL *b, long F, long f)
{
    return a[f] * b[f] + a[F + f] * b[F + f] + a[2 * F + f] * b[2 * F + f];
}

/* Atom i receives from j: unit vector u from i to j, PaiNN equations 7 and 8. */
static inline void receive(long F, const REAL *restrict u, const REAL *restrict w, const REAL *restrict x,
                           const REAL *restrict sent, REAL *restrict q, REAL *restrict mu)
{
    const REAL *w2 = w + F, *w3 = w + 2 * F, *x2 = x + F, *x3 = x + 2 * F;
    if (sent) {
        SIMD for (long f = 0; f < F; f++) {
            REAL along = w2[f] * x2[f], own = w3[f] * x3[f];
            q[f] += w[f] * x[f];
            mu[f] += u[0] * along + own * sent[f];
            mu[F + f] += u[1] * along + own * sent[F + f];
            mu[2 * F + f] += u[2] * along + own * sent[2 * F + f];
        }
    } else {
        SIMD for (long f = 0; f < F; f++) {
            REAL along = w2[f] * x2[f];
            q[f] += w[f] * x[f];
            mu[f] += u[0] * along;
            mu[F + f] += u[1] * along;
            mu[2 * F + f] += u[2] * along;
        }
    }
}

/* Add the messages of all pairs to q and mu; sent [A, 3, F] are the vectors of the atoms, or null. */
void message(long U, long F, const int64_t *i, const int64_t *j, const REAL *u, const REAL *w, const REAL *x,
             const REAL *sent, REAL *q, REAL *mu)
{
    long n = sent ? 3 * F : 2 * F, V = 3 * F;
    for (long p = 0; p < U; p++) {
        long a = i[p], b = j[p];
        REAL to[3] = {u[3 * p], u[3 * p + 1], u[3 * p + 2]}, from[3] = {-to[0], -to[1], -to[2]};
        receive(F, to, w + p * n, x + b * n, sent ? sent + b * V : 0, q + a * F, mu + a * V);
        receive(F, from, w + p * n, x + a * n, sent ? sent + a * V : 0, q + b * F, mu + b * V);
    }
}

/* Gradients of what `receive` adds, for those of its results (gq, gmu); gw is written if first, else added to. */
static inline void receive_back(int first, long F, const REAL *restrict u, const REAL *restrict w,
                                const REAL *restrict x, const REAL *restrict sent, const REAL *restrict gq,
                                const REAL *restrict gmu, REAL *restrict gu, REAL *restrict gw, REAL *restrict gx,
                                REAL *restrict gsent)
{
    const REAL *w2 = w + F, *w3 = w + 2 * F, *x2 = x + F, *x3 = x + 2 * F;
    REAL *gw2 = gw + F, *gw3 = gw + 2 * F, *gx2 = gx + F, *gx3 = gx + 2 * F, s0 = 0, s1 = 0, s2 = 0;
    SUMS(omp simd reduction(+ : s0, s1, s2))
    for (long f = 0; f < F; f++) {
        REAL along = u[0] * gmu[f] + u[1] * gmu[F + f] + u[2] * gmu[2 * F + f], c = w2[f] * x2[f];
        gw[f] = (first ? 0 : gw[f]) + gq[f] * x[f];
        gx[f] += gq[f] * w[f];
        gw2[f] = (first ? 0 : gw2[f]) + along * x2[f];
        gx2[f] += along * w2[f];
        s0 += c * gmu[f];
        s1 += c * gmu[F + f];
        s2 += c * gmu[2 * F + f];
    }
    gu[0] += s0;
    gu[1] += s1;
    gu[2] += s2;
    if (!sent)
        return;
    SIMD for (long f = 0; f < F; f++) {
        REAL own = dot(gmu, sent, F, f), c = w3[f] * x3[f];
        gw3[f] = (first ? 0 : gw3[f]) + own * x3[f];
        gx3[f] += own * w3[f];
        gsent[f] += c * gmu[f];
        gsent[F + f] += c * gmu[F + f];
        gsent[2 * F + f] += c * gmu[2 * F + f];
    }
}

/* gu [U, 3] and gw [U, n F] are written, gx [A, n F] and gsent [A, 3, F] added to. */
void message_back(long U, long F, const int64_t *i, const int64_t *j, const REAL *u, const REAL *w, const REAL *x,
                  const REAL *sent, const REAL *gq, const REAL *gmu, REAL *gu, REAL *gw, REAL *gx, REAL *gsent)
{
    long n = sent ? 3 * F : 2 * F, V = 3 * F;
    for (long p = 0; p < U; p++) {
        long a = i[p], b = j[p];
        REAL to[3] = {u[3 * p], u[3 * p + 1], u[3 * p + 2]}, from[3] = {-to[0], -to[1], -to[2]};
        REAL g[3] = {0, 0, 0}, h[3] = {0, 0, 0};
        receive_back(1, F, to, w + p * n, x + b * n, sent ? sent + b * V : 0, gq + a * F, gmu + a * V, g, gw + p * n,
                     gx + b * n, sent ? gsent + b * V : 0);
        receive_back(0, F, from, w + p * n, x + a * n, sent ? sent + a * V : 0, gq + b * F, gmu + b * V, h, gw + p * n,
                     gx + a * n, sent ? gsent + a * V : 0);
        for (int c = 0; c < 3; c++)
            gu[3 * p + c] = g[c] - h[c];
    }
}

/* Of S, the sum of (hu, hw, hx, hsent) times the results of `receive_back`: its gradients for w, x, sent, gq, gmu. */
static inline void receive_back2(int first, long F, const REAL *restrict u, const REAL *restrict w,
                                 const REAL *restrict x, const REAL *restrict sent, const REAL *restrict gq,
                                 const REAL *restrict gmu, const REAL *restrict hu, const REAL *restrict hw,
                                 const REAL *restrict hx, const REAL *restrict hsent, REAL *restrict sw,
                                 REAL *restrict sx, REAL *restrict ssent, REAL *restrict sgq, REAL *restrict sgmu)
{
    const REAL *w2 = w + F, *w3 = w + 2 * F, *x2 = x + F, *x3 = x + 2 * F;
    const REAL *hw2 = hw + F, *hw3 = hw + 2 * F, *hx2 = hx + F, *hx3 = hx + 2 * F;
    REAL *sw2 = sw + F, *sw3 = sw + 2 * F, *sx2 = sx + F, *sx3 = sx + 2 * F;
    SIMD for (long f = 0; f < F; f++) {
        REAL along = u[0] * gmu[f] + u[1] * gmu[F + f] + u[2] * gmu[2 * F + f];
        REAL halong = hu[0] * gmu[f] + hu[1] * gmu[F + f] + hu[2] * gmu[2 * F + f];
        REAL t = hw2[f] * x2[f] + w2[f] * hx2[f], c = w2[f] * x2[f];
        sgq[f] += hw[f] * x[f] + w[f] * hx[f];
        sw[f] = (first ? 0 : sw[f]) + gq[f] * hx[f];
        sx[f] += hw[f] * gq[f];
        sgmu[f] += u[0] * t + hu[0] * c;
        sgmu[F + f] += u[1] * t + hu[1] * c;
        sgmu[2 * F + f] += u[2] * t + hu[2] * c;
        sw2[f] = (first ? 0 : sw2[f]) + halong * x2[f] + along * hx2[f];
        sx2[f] += hw2[f] * along + w2[f] * halong;
    }
    if (!sent)
        return;
    SIMD for (long f = 0; f < F; f++) {
        REAL own = dot(gmu, sent, F, f), hown = dot(gmu, hsent, F, f);
        REAL t = hw3[f] * x3[f] + w3[f] * hx3[f], c = w3[f] * x3[f];
        sgmu[f] += sent[f] * t + hsent[f] * c;
        sgmu[F + f] += sent[F + f] * t + hsent[F + f] * c;
        sgmu[2 * F + f] += sent[2 * F + f] * t + hsent[2 * F + f] * c;
        sw3[f] = (first ? 0 : sw3[f]) + hown * x3[f] + own * hx3[f];
        sx3[f] += hw3[f] * own + w3[f] * hown;
        ssent[f] += gmu[f] * t;
        ssent[F + f] += gmu[F + f] * t;
        ssent[2 * F + f] += gmu[2 * F + f] * t;
    }
}

/* sw is written; sx, ssent, sgq and sgmu are added to. */
void message_back2(long U, long F, const int64_t *i, const int64_t *j, const REAL *u, const REAL *w, const REAL *x,
                   const REAL *sent, const REAL *gq, const REAL *gmu, const REAL *hu, const REAL *hw, const REAL *hx,
                   const REAL *hsent, REAL *sw, REAL *sx, REAL *ssent, REAL *sgq, REAL *sgmu)
{
    long n = sent ? 3 * F : 2 * F, V = 3 * F;
    for (long p = 0; p < U; p++) {
        long a = i[p], b = j[p];
        REAL to[3] = {u[3 * p], u[3 * p + 1], u[3 * p + 2]}, from[3] = {-to[0], -to[1], -to[2]};
        REAL hto[3] = {hu[3 * p], hu[3 * p + 1], hu[3 * p + 2]}, hfrom[3] = {-hto[0], -hto[1], -hto[2]};
        receive_back2(1, F, to, w + p * n, x + b * n, sent ? sent + b * V : 0, gq + a * F, gmu + a * V, hto, hw + p * n,
                      hx + b * n, sent ? hsent + b * V : 0, sw + p * n, sx + b * n, sent ? ssent + b * V : 0,
                      sgq + a * F, sgmu + a * V);
        receive_back2(0, F, from, w + p * n, x + a * n, sent ? sent + a * V : 0, gq + b * F, gmu + b * V, hfrom,
                      hw + p * n, hx + a * n, sent ? hsent + a * V : 0, sw + p * n, sx + a * n,
                      sent ? ssent + a * V : 0, sgq + b * F, sgmu + b * V);
    }
}

/* Messages of pairs that share filters: pair p has row row[p] of w. */
void message_shared(long U, long F, const int64_t *i, const int64_t *j, const int64_t *row, const REAL *u, const REAL *w,
                   const REAL *x, const REAL *sent, REAL *q, REAL *mu)
{
    long n = sent ? 3 * F : 2 * F, V = 3 * F;
    for (long p = 0; p < U; p++) {
        long a = i[p], b = j[p];
        const REAL *filter = w + row[p] * n;
        REAL to[3] = {u[3 * p], u[3 * p + 1], u[3 * p + 2]}, from[3] = {-to[0], -to[1], -to[2]};
        receive(F, to, filter, x + b * n, sent ? sent + b * V : 0, q + a * F, mu + a * V);
        receive(F, from, filter, x + a * n, sent ? sent + a * V : 0, q + b * F, mu + b * V);
    }
}

/* As `receive_back`; the gradient of the filters is contracted with their derivatives s for the distance and returned. */
static inline REAL receive_shared_back(long F, const REAL *restrict u, const REAL *restrict w, const REAL *restrict s,
                                      const REAL *restrict x, const REAL *restrict sent, const REAL *restrict gq,
                                      const REAL *restrict gmu, REAL *restrict gu, REAL *restrict gx,
                                      REAL *restrict gsent)
{
    const REAL *w2 = w + F, *w3 = w + 2 * F, *x2 = x + F, *x3 = x + 2 * F, *t2 = s + F, *t3 = s + 2 * F;
    REAL *gx2 = gx + F, *gx3 = gx + 2 * F, s0 = 0, s1 = 0, s2 = 0, gd = 0;
    if (sent) {
        SUMS(omp simd reduction(+ : s0, s1, s2, gd))
        for (long f = 0; f < F; f++) {
            REAL along = u[0] * gmu[f] + u[1] * gmu[F + f] + u[2] * gmu[2 * F + f];
            REAL own = dot(gmu, sent, F, f), c = w2[f] * x2[f], c3 = w3[f] * x3[f];
            gd += gq[f] * x[f] * s[f] + along * x2[f] * t2[f] + own * x3[f] * t3[f];
            gx[f] += gq[f] * w[f];
            gx2[f] += along * w2[f];
            gx3[f] += own * w3[f];
            s0 += c * gmu[f];
            s1 += c * gmu[F + f];
            s2 += c * gmu[2 * F + f];
            gsent[f] += c3 * gmu[f];
            gsent[F + f] += c3 * gmu[F + f];
            gsent[2 * F + f] += c3 * gmu[2 * F + f];
        }
    } else {
        SUMS(omp simd reduction(+ : s0, s1, s2, gd))
        for (long f = 0; f < F; f++) {
            REAL along = u[0] * gmu[f] + u[1] * gmu[F + f] + u[2] * gmu[2 * F + f], c = w2[f] * x2[f];
            gd += gq[f] * x[f] * s[f] + along * x2[f] * t2[f];
            gx[f] += gq[f] * w[f];
            gx2[f] += along * w2[f];
            s0 += c * gmu[f];
            s1 += c * gmu[F + f];
            s2 += c * gmu[2 * F + f];
        }
    }
    gu[0] += s0;
    gu[1] += s1;
    gu[2] += s2;
    return gd;
}

/* gu [U, 3] and gd [U] (of the distances, through the filters) are written, gx and gsent added to; slope are the
 * derivatives of w. */
void message_shared_back(long U, long F, const int64_t *i, const int64_t *j, const int64_t *row, const REAL *u,
                        const REAL *w, const REAL *slope, const REAL *x, const REAL *sent, const REAL *gq,
                        const REAL *gmu, REAL *gu, REAL *gd, REAL *gx, REAL *gsent)
{
    long n = sent ? 3 * F : 2 * F, V = 3 * F;
    for (long p = 0; p < U; p++) {
        long a = i[p], b = j[p];
        const REAL *filter = w + row[p] * n, *s = slope + row[p] * n;
        REAL to[3] = {u[3 * p], u[3 * p + 1], u[3 * p + 2]}, from[3] = {-to[0], -to[1], -to[2]};
        REAL g[3] = {0, 0, 0}, h[3] = {0, 0, 0};
        REAL d = receive_shared_back(F, to, filter, s, x + b * n, sent ? sent + b * V : 0, gq + a * F, gmu + a * V, g,
                                    gx + b * n, sent ? gsent + b * V : 0);
        gd[p] = d + receive_shared_back(F, from, filter, s, x + a * n, sent ? sent + a * V : 0, gq + b * F, gmu + b * V,
                                       h, gx + a * n, sent ? gsent + a * V : 0);
        for (int c = 0; c < 3; c++)
            gu[3 * p + c] = g[c] - h[c];
    }
}

/* Rows of vw [A, 3, 2 F] are v and v' of equation 9: context [A, 2 F] is (q, |v|), product [A, F] is v v'. */
void context(long A, long F, REAL epsilon, const REAL *q, const REAL *vw, REAL *context, REAL *product)
{
    for (long a = 0; a < A; a++) {
        const REAL *restrict qa = q + a * F, *restrict v = vw + 6 * a * F;
        REAL *restrict c = context + 2 * a * F, *restrict p = product + a * F;
        SIMD for (long f = 0; f < F; f++) {
            REAL x = v[f], y = v[2 * F + f], z = v[4 * F + f];
            c[f] = qa[f];
            c[F + f] = SQRT(x * x + y * y + z * z + epsilon);
            p[f] = x * v[F + f] + y * v[3 * F + f] + z * v[5 * F + f];
        }
    }
}

/* gvw from the gradients of norm (row gc[F:]) and product; that of q is gc[:F]. */
void context_back(long A, long F, const REAL *vw, const REAL *context, const REAL *gcontext, const REAL *gproduct,
                  REAL *gvw)
{
    for (long a = 0; a < A; a++) {
        const REAL *restrict v = vw + 6 * a * F, *restrict norm = context + 2 * a * F + F;
        const REAL *restrict gn = gcontext + 2 * a * F + F, *restrict gp = gproduct + a * F;
        REAL *restrict g = gvw + 6 * a * F;
        SIMD for (long f = 0; f < F; f++) {
            REAL s = gn[f] / norm[f], t = gp[f];
            for (long c = 0; c < 6 * F; c += 2 * F) {
                g[c + f] = s * v[c + f] + t * v[c + F + f];
                g[c + F + f] = t * v[c + f];
            }
        }
    }
}

/* Of the sum of hvw times gvw: its gradients for vw, the norm's gradient and the product's. */
void context_back2(long A, long F, const REAL *vw, const REAL *context, const REAL *gcontext, const REAL *gproduct,
                   const REAL *hvw, REAL *svw, REAL *sgcontext, REAL *sgproduct)
{
    for (long a = 0; a < A; a++) {
        const REAL *restrict v = vw + 6 * a * F, *restrict norm = context + 2 * a * F + F, *restrict h = hvw + 6 * a * F;
        const REAL *restrict gn = gcontext + 2 * a * F + F, *restrict gp = gproduct + a * F;
        REAL *restrict s = svw + 6 * a * F, *restrict sn = sgcontext + 2 * a * F + F, *restrict sp = sgproduct + a * F;
        SIMD for (long f = 0; f < F; f++) {
            REAL hv = h[f] * v[f] + h[2 * F + f] * v[2 * F + f] + h[4 * F + f] * v[4 * F + f];
            REAL hw = h[f] * v[F + f] + h[2 * F + f] * v[3 * F + f] + h[4 * F + f] * v[5 * F + f];
            REAL wv = h[F + f] * v[f] + h[3 * F + f] * v[2 * F + f] + h[5 * F + f] * v[4 * F + f];
            REAL inverse = 1 / norm[f], r = gn[f] * inverse, k = r * inverse * inverse * hv, t = gp[f];
            sn[f] = hv * inverse;
            sp[f] = hw + wv;
            for (long c = 0; c < 6 * F; c += 2 * F) {
                s[c + f] = r * h[c + f] - k * v[c + f] + t * h[c + F + f];
                s[c + F + f] = t * h[c + f];
            }
        }
    }
}

/* Equation 10: q + y1 + y3 product and, unless mu is null, mu + y2 v'. Rows of y [A, 3 F] are (y1, y2, y3). */
void update(long A, long F, const REAL *y, const REAL *product, const REAL *vw, REAL *q, REAL *mu)
{
    for (long a = 0; a < A; a++) {
        const REAL *restrict y1 = y + 3 * a * F, *restrict y2 = y1 + F, *restrict y3 = y1 + 2 * F;
        const REAL *restrict p = product + a * F, *restrict w = vw + 6 * a * F + F;
        REAL *restrict qa = q + a * F, *restrict m = mu + 3 * a * F;
        SIMD for (long f = 0; f < F; f++) qa[f] += y1[f] + y3[f] * p[f];
        if (mu)
            SIMD for (long f = 0; f < F; f++)
                for (long c = 0; c < 3; c++)
                    m[c * F + f] += y2[f] * w[2 * c * F + f];
    }
}

/* gy, gproduct and gvw are written (the v half of gvw with zeros). */
void update_back(long A, long F, const REAL *y, const REAL *product, const REAL *vw, const REAL *gq, const REAL *gmu,
                 REAL *gy, REAL *gproduct, REAL *gvw)
{
    for (long a = 0; a < A; a++) {
        const REAL *restrict y2 = y + 3 * a * F + F, *restrict y3 = y2 + F, *restrict p = product + a * F;
        const REAL *restrict w = vw + 6 * a * F + F, *restrict g = gq + a * F, *restrict m = gmu + 3 * a * F;
        REAL *restrict gy1 = gy + 3 * a * F, *restrict gp = gproduct + a * F, *restrict gv = gvw + 6 * a * F;
        REAL *gy2 = gy1 + F, *gy3 = gy1 + 2 * F;
        SIMD for (long f = 0; f < F; f++)
        {
            gy1[f] = g[f];
            gy3[f] = g[f] * p[f];
            gp[f] = g[f] * y3[f];
        }
        if (gmu) {
            SIMD for (long f = 0; f < F; f++)
            {
                gy2[f] = m[f] * w[f] + m[F + f] * w[2 * F + f] + m[2 * F + f] * w[4 * F + f];
                for (long c = 0; c < 3; c++) {
                    gv[2 * c * F + f] = 0;
                    gv[2 * c * F + F + f] = m[c * F + f] * y2[f];
                }
            }
        } else {
            for (long f = 0; f < F; f++)
                gy2[f] = 0;
            for (long f = 0; f < 6 * F; f++)
                gv[f] = 0;
        }
    }
}

/* Of the sum of (hy, hproduct, hvw) times the results of `update_back`: its gradients. */
void update_back2(long A, long F, const REAL *y, const REAL *product, const REAL *vw, const REAL *gq, const REAL *gmu,
                  const REAL *hy, const REAL *hproduct, const REAL *hvw, REAL *sy, REAL *sproduct, REAL *svw, REAL *sgq,
                  REAL *sgmu)
{
    for (long a = 0; a < A; a++) {
        const REAL *restrict y2 = y + 3 * a * F + F, *restrict y3 = y2 + F, *restrict p = product + a * F;
        const REAL *restrict h1 = hy + 3 * a * F, *restrict h2 = h1 + F, *restrict h3 = h1 + 2 * F;
        const REAL *restrict w = vw + 6 * a * F + F, *restrict g = gq + a * F, *restrict m = gmu + 3 * a * F;
        const REAL *restrict hp = hproduct + a * F, *restrict hw = hvw + 6 * a * F + F;
        REAL *restrict s1 = sy + 3 * a * F, *restrict sp = sproduct + a * F, *restrict sv = svw + 6 * a * F;
        REAL *restrict sg = sgq + a * F, *restrict sm = sgmu + 3 * a * F, *s2 = s1 + F, *s3 = s1 + 2 * F;
        SIMD for (long f = 0; f < F; f++)
        {
            s1[f] = 0;
            s3[f] = hp[f] * g[f];
            sp[f] = h3[f] * g[f];
            sg[f] = h1[f] + h3[f] * p[f] + hp[f] * y3[f];
        }
        if (gmu) {
            SIMD for (long f = 0; f < F; f++)
            {
                s2[f] = m[f] * hw[f] + m[F + f] * hw[2 * F + f] + m[2 * F + f] * hw[4 * F + f];
                for (long c = 0; c < 3; c++) {
                    sm[c * F + f] = h2[f] * w[2 * c * F + f] + hw[2 * c * F + f] * y2[f];
                    sv[2 * c * F + f] = 0;
                    sv[2 * c * F + F + f] = h2[f] * m[c * F + f];
                }
            }
        } else {
            for (long f = 0; f < F; f++)
                s2[f] = 0;
            for (long f = 0; f < 6 * F; f++)
                sv[f] = 0;
        }
    }
}

/* Activation x / (1 + exp(-x)) and its derivatives. */
void silu(long n, const REAL *restrict x, REAL *restrict result)
{
    SIMD for (long k = 0; k < n; k++) result[k] = x[k] / (1 + EXP(-x[k]));
}

void silu_back(long n, const REAL *restrict x, const REAL *restrict g, REAL *restrict gx)
{
    SIMD for (long k = 0; k < n; k++)
    {
        REAL s = 1 / (1 + EXP(-x[k]));
        gx[k] = g[k] * s * (1 + x[k] * (1 - s));
    }
}

void silu_back2(long n, const REAL *restrict x, const REAL *restrict g, const REAL *restrict h, REAL *restrict sx,
                REAL *restrict sg)
{
    SIMD for (long k = 0; k < n; k++)
    {
        REAL s = 1 / (1 + EXP(-x[k]));
        sg[k] = h[k] * s * (1 + x[k] * (1 - s));
        sx[k] = h[k] * g[k] * s * (1 - s) * (2 + x[k] * (1 - 2 * s));
    }
}

/* Bessel functions sin(k pi d / cutoff) / d, k = 1..R, times the cosine envelope, and the envelope as the last column:
 * values and derivatives for d, [U, R + 1]; unit vectors [U, 3] and lengths [U] of the vectors [U, 3].
 * The sines come from the angle addition formulas, in double: 50 sines would cost more than all messages.
 */
#define LANES 8
void basis(long U, long R, double cutoff, const REAL *vectors, REAL *unit, REAL *length, REAL *value, REAL *slope)
{
    const double step = 3.14159265358979323846 / cutoff;
    const long n = R + 1;
    for (long first = 0; first < U; first += LANES) {
        double inverse[LANES], sin1[LANES], cos1[LANES], s[LANES], c[LANES], envelope[LANES], fall[LANES];
        long lanes = U - first < LANES ? U - first : LANES;
        for (long l = 0; l < LANES; l++) {
            long p = first + (l < lanes ? l : 0);
            double x = vectors[3 * p], y = vectors[3 * p + 1], z = vectors[3 * p + 2];
            double d = sqrt(x * x + y * y + z * z);
            inverse[l] = 1 / d;
            length[p] = d;
            unit[3 * p] = x / d;
            unit[3 * p + 1] = y / d;
            unit[3 * p + 2] = z / d;
            s[l] = sin1[l] = sin(step * d);
            c[l] = cos1[l] = cos(step * d);
            envelope[l] = d < cutoff ? 0.5 * (1 + cos1[l]) : 0;
            fall[l] = d < cutoff ? -0.5 * step * sin1[l] : 0;
            value[p * n + R] = envelope[l];
            slope[p * n + R] = fall[l];
        }
        for (long k = 0; k < R; k++) {
            REAL values[LANES], slopes[LANES];
            double wave = step * (k + 1);
            for (long l = 0; l < LANES; l++) {
                double bessel = s[l] * inverse[l], old = s[l];
                values[l] = bessel * envelope[l];
                slopes[l] = (wave * c[l] - bessel) * inverse[l] * envelope[l] + bessel * fall[l];
                s[l] = old * cos1[l] + c[l] * sin1[l];
                c[l] = c[l] * cos1[l] - old * sin1[l];
            }
            for (long l = 0; l < lanes; l++) {
                value[(first + l) * n + k] = values[l];
                slope[(first + l) * n + k] = slopes[l];
            }
        }
    }
}

/* Gradients of the vectors for those of unit vectors and basis. */
void basis_back(long U, long n, const REAL *unit, const REAL *length, const REAL *slope, const REAL *gunit,
                const REAL *gvalue, REAL *gvectors)
{
    for (long p = 0; p < U; p++) {
        const REAL *restrict u = unit + 3 * p, *restrict g = gunit + 3 * p;
        const REAL *restrict ds = slope + p * n, *restrict gv = gvalue + p * n;
        REAL s = 0, along = u[0] * g[0] + u[1] * g[1] + u[2] * g[2];
        SUMS(omp simd reduction(+ : s))
        for (long k = 0; k < n; k++)
            s += gv[k] * ds[k];
        for (long c = 0; c < 3; c++)
            gvectors[3 * p + c] = s * u[c] + (g[c] - along * u[c]) / length[p];
    }
}

/* Of the sum of h times gvectors: its gradients for gunit and gvalue. */
void basis_back2(long U, long n, const REAL *unit, const REAL *length, const REAL *slope, const REAL *h, REAL *sgunit,
                 REAL *sgvalue)
{
    for (long p = 0; p < U; p++) {
        const REAL *restrict u = unit + 3 * p, *restrict hp = h + 3 * p, *restrict ds = slope + p * n;
        REAL *restrict sv = sgvalue + p * n, along = u[0] * hp[0] + u[1] * hp[1] + u[2] * hp[2];
        SIMD for (long k = 0; k < n; k++) sv[k] = along * ds[k];
        for (long c = 0; c < 3; c++)
            sgunit[3 * p + c] = (hp[c] - along * u[c]) / length[p];
    }
}
