// What goes first where room is needed: the order of the leaves of a cache. The rules are in
// docs/hitrate.md; a new one is a struct here with its name in kEvictions and its line in `visit`.
#pragma once

#include <array>
#include <utility>

#include "ticks.hpp"

namespace dcsim {

// What an order may look at: who used it and when, since it was inserted. No two leaves have the
// same `last` or the same `inserted`.
struct Mark { i64 inserted, uses, last; };
// The least goes first. No two leaves may have one key.
using Key = std::pair<i64, i64>;

struct Lru {
    static Key key(const Mark& m) { return {m.last, 0}; }
};
struct Lfu {
    static Key key(const Mark& m) { return {m.uses, m.last}; }
};
struct Fifo {
    static Key key(const Mark& m) { return {m.inserted, 0}; }
};

enum Eviction : i64 { kLru, kLfu, kFifo };
inline constexpr std::array<const char*, 3> kEvictions{"lru", "lfu", "fifo"};

// `act` with the order of a number.
template <class Act>
auto visit(i64 eviction, Act act) {
    switch (eviction) {
        case kLfu: return act(Lfu{});
        case kFifo: return act(Fifo{});
        default: return act(Lru{});
    }
}

}  // namespace dcsim
