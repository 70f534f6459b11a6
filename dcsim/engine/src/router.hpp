// Which replica of a service gets a request that arrives: a router is a case of `choose`.
#pragma once

#include <vector>

#include "tables.hpp"
#include "tree.hpp"

namespace dcsim {

class Router {
  public:
    explicit Router(const Tables& tables) : tables_(tables) {
        for (const Service& s : tables.services)
            queues_.push_back({WinnerTree<i64>(static_cast<std::size_t>(s.replicas), kNever), 0});
    }

    // Whether any replica of a service can be routed to.
    bool open(std::size_t service) const { return queues_[service].load.top_key() != kNever; }

    // The replica for a request of a service that is open; `before`: where the one that it waited
    // for last was, -1 if it waited for none.
    std::size_t choose(std::size_t service, i64 before) {
        Queue& queue = queues_[service];
        const Service& s = tables_.services[service];
        const auto first = static_cast<std::size_t>(s.replica), count = static_cast<std::size_t>(s.replicas);
        if (s.router == kSessionSticky && before >= s.replica && before < s.replica + s.replicas &&
            queue.load.key(static_cast<std::size_t>(before - s.replica)) != kNever)
            return static_cast<std::size_t>(before);
        if (s.router != kRoundRobin) return first + queue.load.top();
        std::size_t slot = queue.pointer;
        while (queue.load.key(slot) == kNever) slot = (slot + 1) % count;
        queue.pointer = (slot + 1) % count;
        return first + slot;
    }

    // A replica takes requests from now on, with so many there already, or takes none.
    void open(std::size_t replica, i64 requests) {
        const auto [queue, slot] = place(replica);
        if (queue->load.key(slot) == kNever) queue->load.set(slot, requests);
    }
    void close(std::size_t replica) {
        const auto [queue, slot] = place(replica);
        queue->load.clear(slot);
    }
    // So many requests more (or, below 0, fewer) wait or run there.
    void add(std::size_t replica, i64 requests) {
        const auto [queue, slot] = place(replica);
        if (queue->load.key(slot) != kNever) queue->load.set(slot, queue->load.key(slot) + requests);
    }

  private:
    struct Queue {
        WinnerTree<i64> load;  // requests by replica; kNever: not to be routed to
        std::size_t pointer;
    };
    struct Place { Queue* queue; std::size_t slot; };

    Place place(std::size_t replica) {
        const auto s = static_cast<std::size_t>(tables_.replicas[replica].service);
        return {&queues_[s], replica - static_cast<std::size_t>(tables_.services[s].replica)};
    }

    const Tables& tables_;
    std::vector<Queue> queues_;
};

}  // namespace dcsim
