// How requests come to the engine, and leave it once they are over, slice by slice; and its end.
#pragma once

#include "engine.hpp"

namespace dcsim {

// All that arrive by a time are here before the engine runs to it.
inline void Engine::give(const Requests& more) {
    const Requests& known = tables_.requests;
    check(more, known.size() == 0 ? 0 : known.arrival[known.arrival.size() - 1], known.arrival.size());
    for (const auto& [name, column] : kRequestColumns) (tables_.requests.*column).add(more.*column);
    out_.come(tables_.requests);
}

// Whether they may come after so many, of which the last is of this time.
inline void Engine::check(const Requests& more, i64 latest, std::size_t known) const {
    if (!tables_.requests.more()) throw std::invalid_argument("requests that wait for others, or have content in common, come all at once");
    if (!more.arrival.empty() && more.arrival[0] <= handled_)
        throw std::invalid_argument("a request of " + std::to_string(more.arrival[0]) + " ns comes too late: all up to " +
                                    std::to_string(handled_) + " ns has been handled");
    tables_.check_requests(more, latest, known);
}

// The columns of the oldest slice, if all of its requests are over: `put(name, values)` each.
template <class Put>
bool Engine::take(Put&& put) {
    if (!out_.over()) return false;
    const std::size_t last = out_.take(put);
    if (tables_.requests.more() && last > 0)  // the last stays: who comes next does not come before it
        for (const auto& [name, column] : kRequestColumns) (tables_.requests.*column).forget(last - 1);
    return true;
}

template <class Put>
void Engine::take_rest(Put&& put) {
    out_.take_rest(put);
}

// Runs to the horizon and writes down what is under way.
inline void Engine::finish() {
    if (finished_) return;
    run_until(timeline_.bins().horizon);
    for (std::size_t r = 0; r < replicas_.size(); ++r) {
        Replica& replica = replicas_[r];
        settle_idle(r);
        if (!replica.batch.empty()) settle_now(r);
        if (replica.slack.on()) replica.slack.finish(ticks_of(now_));
    }
    channels_.close(now_);
    pools_.finish(now_);
    if (!tier_top_.needed())
        for (const ReplicaRow& r : tables_.replicas) timeline_.tier_is(kHbm, static_cast<std::size_t>(r.hbm));
    else if (!apart_)
        tier_top_.finish(now_);
    timeline_.finish();
    finished_ = true;
}

}  // namespace dcsim
