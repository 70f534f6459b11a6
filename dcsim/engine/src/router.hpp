// Which replica of a service gets a request that arrives: a router is a case of `choose`.
#pragma once

#include <utility>
#include <vector>

#include "tables.hpp"
#include "tree.hpp"

namespace dcsim {

class Router {
  public:
    explicit Router(const Tables& tables) : tables_(tables) {
        for (const Service& s : tables.services)
            queues_.push_back({WinnerTree<i64>(static_cast<std::size_t>(s.replicas), kNever), s.router == kPrefixAware,
                               std::vector<i64>(static_cast<std::size_t>(s.replicas), 0), 0});
    }

    // Whether any replica of a service can be routed to.
    bool open(std::size_t service) const { return queues_[service].load.top_key() != kNever; }

    // The replica for a request of a service that is open; `before`: where the one that it waited
    // for last was, -1 if it waited for none; `found(replica)`: what its prompt saves there, in
    // quarters of tokens.
    template <class Found>
    std::size_t choose(std::size_t service, i64 before, Found&& found) {
        Queue& queue = queues_[service];
        const Service& s = tables_.services[service];
        const auto first = static_cast<std::size_t>(s.replica), count = static_cast<std::size_t>(s.replicas);
        if (s.router == kSessionSticky && before >= s.replica && before < s.replica + s.replicas &&
            queue.load.key(static_cast<std::size_t>(before - s.replica)) != kNever)
            return static_cast<std::size_t>(before);
        if (s.router == kPrefixAware) return first + cheapest(queue, first, found);
        if (s.router != kRoundRobin) return first + queue.load.top();
        std::size_t slot = queue.pointer;
        while (queue.load.key(slot) == kNever) slot = (slot + 1) % count;
        queue.pointer = (slot + 1) % count;
        return first + slot;
    }

    // A replica takes requests from now on, with so many there already, or takes none.
    void open(std::size_t replica, i64 requests) {
        const auto [queue, slot] = place(replica);
        if (queue->load.key(slot) != kNever) return;
        queue->load.set(slot, requests);
        queue->asked[slot] = 0;
    }
    void close(std::size_t replica) {
        const auto [queue, slot] = place(replica);
        queue->load.clear(slot);
    }
    // One more request (`sign` 1) or one fewer (-1) waits or runs there.
    void add(std::size_t replica, i64 request, i64 sign) {
        const auto [queue, slot] = place(replica);
        if (queue->load.key(slot) == kNever) return;
        queue->load.set(slot, queue->load.key(slot) + sign);
        if (queue->weighs) queue->asked[slot] += sign * tables_.requests.prompt[static_cast<std::size_t>(request)];
    }

  private:
    struct Queue {
        WinnerTree<i64> load;  // requests by replica; kNever: not to be routed to
        bool weighs;  // prompts count
        std::vector<i64> asked;  // tokens of the prompts of those requests
        std::size_t pointer;
    };
    struct Place { Queue* queue; std::size_t slot; };

    // As the cost of NVIDIA Dynamo's KV router by its defaults: tokens to compute and tokens active
    // there weigh the same, one found in HBM saves itself, in DRAM 3/4, in NAND 1/4.
    template <class Found>
    static std::size_t cheapest(const Queue& queue, std::size_t first, Found&& found) {
        std::size_t best = 0;
        std::pair<i64, i64> least{kNever, kNever};
        for (std::size_t slot = 0; slot < queue.asked.size(); ++slot) {
            const i64 load = queue.load.key(slot);
            if (load == kNever) continue;
            const std::pair<i64, i64> cost{4 * queue.asked[slot] - found(first + slot), load};
            if (cost >= least) continue;
            least = cost;
            best = slot;
        }
        return best;
    }

    Place place(std::size_t replica) {
        const auto s = static_cast<std::size_t>(tables_.replicas[replica].service);
        return {&queues_[s], replica - static_cast<std::size_t>(tables_.services[s].replica)};
    }

    const Tables& tables_;
    std::vector<Queue> queues_;
};

}  // namespace dcsim
