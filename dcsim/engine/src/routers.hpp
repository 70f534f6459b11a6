// Which replica of a service gets a request. The rules are in docs/engine.md, Arrivals and routing; a new one
// is a struct here with its name in kRouters and its line in `route_by`.
#pragma once

#include <array>
#include <utility>
#include <vector>

#include "ticks.hpp"
#include "tree.hpp"

namespace dcsim {

// What a router may look at: the replicas of a service, by slot.
struct RouterQueue {
    WinnerTree<i64> load;    // requests there; kNever: not to be routed to
    std::vector<i64> asked;  // tokens of the prompts of those requests, where prompts count
    std::size_t pointer = 0;

    bool open(std::size_t slot) const { return load.key(slot) != kNever; }
};
// Of the request: the slot of the one that it waited for last (kNowhere: none of these), and
// `found(slot)`: what its prompt saves there, in quarters of tokens.
inline constexpr std::size_t kNowhere = static_cast<std::size_t>(-1);

struct LeastLoaded {
    template <class Found>
    static std::size_t choose(RouterQueue& queue, std::size_t, Found&&) { return queue.load.top(); }
};
struct RoundRobin {
    template <class Found>
    static std::size_t choose(RouterQueue& queue, std::size_t, Found&&) {
        const std::size_t count = queue.asked.size();
        std::size_t slot = queue.pointer;
        while (!queue.open(slot)) slot = (slot + 1) % count;
        queue.pointer = (slot + 1) % count;
        return slot;
    }
};
struct SessionSticky {
    template <class Found>
    static std::size_t choose(RouterQueue& queue, std::size_t before, Found&&) {
        return before != kNowhere && queue.open(before) ? before : queue.load.top();
    }
};
// As the cost of NVIDIA Dynamo's KV router by its defaults: tokens to compute and tokens active
// there weigh the same, one found in HBM saves itself, in DRAM 3/4, in NAND 1/4.
struct PrefixAware {
    template <class Found>
    static std::size_t choose(RouterQueue& queue, std::size_t, Found&& found) {
        std::size_t best = 0;
        std::pair<i64, i64> least{kNever, kNever};
        for (std::size_t slot = 0; slot < queue.asked.size(); ++slot) {
            if (!queue.open(slot)) continue;
            const std::pair<i64, i64> cost{4 * queue.asked[slot] - found(slot), queue.load.key(slot)};
            if (cost >= least) continue;
            least = cost;
            best = slot;
        }
        return best;
    }
};

inline constexpr std::array<const char*, 4> kRouters{"least_loaded", "round_robin", "session_sticky", "prefix_aware"};

// `act` with the router of a number.
template <class Act>
auto route_by(i64 router, Act act) {
    switch (router) {
        case 1: return act(RoundRobin{});
        case 2: return act(SessionSticky{});
        case 3: return act(PrefixAware{});
        default: return act(LeastLoaded{});
    }
}
// Whether a router looks at the prompts that are there.
inline bool weighs_prompts(i64 router) { return router == 3; }

}  // namespace dcsim
