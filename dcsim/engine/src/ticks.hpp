// Integer time. Inside an iteration costs are ticks of 2^-16 ns, so that a
// thousand-step sum keeps its nanoseconds; clocks are 128 bits wide.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>

namespace dcsim {

using i64 = std::int64_t;
__extension__ typedef __int128 i128;

inline constexpr i64 kTicksPerNs = 65536;
inline constexpr i64 kNever = std::numeric_limits<i64>::max();

inline i128 ticks_of(i64 ns) { return static_cast<i128>(ns) * kTicksPerNs; }

// The nanosecond in which an instant is seen outside: rounded up.
inline i64 ns_of(i128 ticks) {
    const i128 ns = (ticks + (kTicksPerNs - 1)) >> 16;
    return ns >= kNever ? kNever - 1 : static_cast<i64>(ns);
}

// n*(n-1)/2, in 64 bits where that is enough: it nearly always is.
inline i128 pairs(i64 n) {
    return n < (i64{1} << 31) ? i128{(n * (n - 1)) >> 1} : (static_cast<i128>(n) * (n - 1)) >> 1;
}

// A cost or a size that is a + b*k in iteration k.
struct Line {
    i64 a = 0;
    i64 b = 0;

    i64 at(i64 k) const { return a + b * k; }

    // Sum over k = 0..n-1.
    i128 sum(i64 n) const {
        return static_cast<i128>(n) * a + b * pairs(n);
    }

    // Largest n with sum(n) <= x, for a >= 1, b >= 0, x >= 0. The square root
    // is a guess; the comparison that follows is exact.
    i64 steps_within(i128 x) const {
        const double lead = static_cast<double>(a) - 0.5 * static_cast<double>(b);
        const double xd = static_cast<double>(x);
        const double root = std::sqrt(lead * lead + 2.0 * static_cast<double>(b) * xd);
        const double guess = b == 0 ? xd / static_cast<double>(a) : 2.0 * xd / (lead + root);
        i64 n = guess < 4e18 ? static_cast<i64>(guess) : static_cast<i64>(4e18);
        while (n > 0 && sum(n) > x) --n;
        while (sum(n + 1) <= x) ++n;
        return n;
    }
};

// Sum over k = 0..n-1 of size(k) * cost(k): bytes held times ticks.
inline i128 sum_product(const Line& size, const Line& cost, i64 n) {
    const i128 n1 = n;
    const i128 k1 = pairs(n);
    i128 total = n1 * (static_cast<i128>(size.a) * cost.a);
    total += k1 * (static_cast<i128>(size.a) * cost.b + static_cast<i128>(size.b) * cost.a);
    if (size.b != 0 && cost.b != 0) {
        // A 128-bit division is a call; below 2^20 the product fits 64 bits.
        const i128 k2 = n < (1 << 20) ? (n - 1) * n * (2 * n - 1) / 6 : (n1 - 1) * n1 * (2 * n1 - 1) / 6;
        total += k2 * (static_cast<i128>(size.b) * cost.b);
    }
    return total;
}

}  // namespace dcsim
