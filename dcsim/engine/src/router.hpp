// Who may be routed to, and how much is there: what routers.hpp decides by.
#pragma once

#include <functional>
#include <utility>
#include <vector>

#include "routers.hpp"
#include "tables.hpp"

namespace dcsim {

// What a function decides by: of the request, and of each replica that it can go to.
struct Option { i64 replica, requests, asked, saved; };
struct Choice {
    i64 now, klass, prompt, output, before;
    std::vector<Option> options;
};
using RouteFunction = std::function<i64(const Choice&)>;

class Router {
  public:
    explicit Router(const Tables& tables) : tables_(tables) {
        for (const Service& s : tables.services) {
            const auto count = static_cast<std::size_t>(s.replicas);
            queues_.push_back({WinnerTree<i64>(count, kNever), std::vector<i64>(count, 0)});
        }
        functions_.resize(tables.services.size());
    }

    // From before the first request on a function, in place of the service's router.
    void decide_by(std::size_t service, RouteFunction function) { functions_.at(service) = std::move(function); }
    bool has_function(std::size_t service) const { return static_cast<bool>(functions_[service]); }

    // Whether any replica of a service can be routed to.
    bool open(std::size_t service) const { return queues_[service].load.top_key() != kNever; }

    // The replica for a request of a service that is open; `before`: where the one that it waited
    // for last was, -1 if it waited for none; `found(replica)`: what its prompt saves there, in
    // quarters of tokens.
    template <class Found>
    std::size_t choose(std::size_t service, i64 before, Found&& found) {
        const Service& s = tables_.services[service];
        const auto first = static_cast<std::size_t>(s.replica);
        const bool mine = before >= s.replica && before < s.replica + s.replicas;
        const std::size_t slot = mine ? static_cast<std::size_t>(before) - first : kNowhere;
        return first + route_by(s.router, [&](auto router) {
            return router.choose(queues_[service], slot, [&](std::size_t r) { return found(first + r); });
        });
    }

    // The same by the service's function; `choice` has all but the replicas.
    template <class Found>
    std::size_t choose(std::size_t service, Choice choice, Found&& found) {
        const auto first = static_cast<std::size_t>(tables_.services[service].replica);
        const RouterQueue& queue = queues_[service];
        for (std::size_t slot = 0; slot < queue.asked.size(); ++slot)
            if (queue.open(slot))
                choice.options.push_back({static_cast<i64>(first + slot), queue.load.key(slot), queue.asked[slot], found(first + slot)});
        return static_cast<std::size_t>(functions_[service](choice));
    }

    // A replica takes requests from now on, with so many there already, or takes none.
    void open(std::size_t replica, i64 requests) {
        const auto [queue, slot, weighs] = place(replica);
        if (queue->open(slot)) return;
        queue->load.set(slot, requests);
        queue->asked[slot] = 0;
    }
    void close(std::size_t replica) {
        const auto [queue, slot, weighs] = place(replica);
        queue->load.clear(slot);
    }
    // One more request (`sign` 1) or one fewer (-1) waits or runs there.
    void add(std::size_t replica, i64 request, i64 sign) {
        const auto [queue, slot, weighs] = place(replica);
        if (!queue->open(slot)) return;
        queue->load.set(slot, queue->load.key(slot) + sign);
        if (weighs) queue->asked[slot] += sign * tables_.requests.prompt[static_cast<std::size_t>(request)];
    }

  private:
    struct Place { RouterQueue* queue; std::size_t slot; bool weighs; };

    Place place(std::size_t replica) {
        const auto s = static_cast<std::size_t>(tables_.replicas[replica].service);
        return {&queues_[s], replica - static_cast<std::size_t>(tables_.services[s].replica), has_function(s) || weighs_prompts(tables_.services[s].router)};
    }

    const Tables& tables_;
    std::vector<RouterQueue> queues_;
    std::vector<RouteFunction> functions_;  // of each service; most have none
};

}  // namespace dcsim
