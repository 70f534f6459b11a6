// How requests come to the engine, and leave it once they are over, slice by slice.
#pragma once

#include "engine.hpp"

namespace dcsim {

// All that arrive by a time are here before the engine runs to it.
inline void Engine::give(const Requests& more) {
    if (!more.arrival.empty() && more.arrival[0] <= handled_)
        throw std::invalid_argument("a request of " + std::to_string(more.arrival[0]) + " ns comes too late: all up to " +
                                    std::to_string(handled_) + " ns has been handled");
    tables_.add(more);
    out_.come(tables_.requests);
}

// The columns of the oldest slice, if all of its requests are over: `put(name, values)` each.
template <class Put>
bool Engine::take(Put&& put) {
    const std::size_t last = out_.over();
    if (last == out_.begin()) return false;
    out_.take(last, put);
    if (tables_.requests.more())  // the last stays: who comes next does not come before it
        for (const auto& [name, column] : kRequestColumns) (tables_.requests.*column).forget(last - 1);
    return true;
}

template <class Put>
void Engine::take_rest(Put&& put) {
    out_.take(out_.start.size(), put);
}

}  // namespace dcsim
