// What ended requests keep for those that wait for them, until it has moved to where they run.
#pragma once

#include <algorithm>
#include <unordered_map>
#include <vector>

#include "tables.hpp"

namespace dcsim {

class HandOvers {
  public:
    // A transfer under way; `loading`: what the taker's load is called, -1 while it is not admitted.
    struct Moving {
        i64 giver, taker;
        std::size_t replica;  // of the taker
        i64 loading;
        bool ahead;
    };
    // A replica that was chosen before its request came, and what goes there ahead.
    struct Booking {
        std::size_t replica, giver_replica;
        i64 epoch, giver_epoch;
        std::size_t move;
        bool arrived = false;  // what went ahead
    };
    static constexpr i64 kNotKept = -1;

    explicit HandOvers(const Requests& requests) : requests_(requests) {
        if (requests.handover.empty()) return;
        const auto n = static_cast<std::size_t>(requests.size());
        open_.assign(n, 0);
        bytes_.assign(n, 0);
        kept_.assign(n, kNotKept);
        for (std::size_t i = 0; i < requests.after.size(); ++i) {
            const auto giver = static_cast<std::size_t>(requests.after[i]);
            if (requests.handover[i] == 0) continue;
            ++open_[giver];
            bytes_[giver] = std::max(bytes_[giver], requests.handover[i]);
        }
    }

    bool any() const { return !open_.empty(); }
    // Whether anything is to be handed over to a request.
    bool to(i64 taker) const {
        bool found = false;
        each(taker, [&](i64, i64) { found = true; });
        return found;
    }
    // Calls `act(giver, bytes)` for each hand-over to a request, in order of givers.
    template <class Act>
    void each(i64 taker, Act&& act) const {
        if (!any()) return;
        const auto q = static_cast<std::size_t>(taker);
        for (i64 i = requests_.after_start[q]; i < requests_.after_start[q + 1]; ++i) {
            const auto entry = static_cast<std::size_t>(i);
            if (requests_.handover[entry] > 0) act(requests_.after[entry], requests_.handover[entry]);
        }
    }
    // Bytes that go to a request before the one that it waits for has ended.
    i64 ahead(i64 taker) const {
        const i64 first = requests_.after_start[static_cast<std::size_t>(taker)];
        return requests_.ahead[static_cast<std::size_t>(first)];
    }
    i64 fed(i64 taker) const { return requests_.fed[static_cast<std::size_t>(taker)]; }
    i64 bytes(i64 giver) const { return bytes_[static_cast<std::size_t>(giver)]; }

    // A request has ended on a replica of this epoch: the bytes that stay there; 0: none.
    i64 keep(i64 giver, i64 epoch) {
        const auto q = static_cast<std::size_t>(giver);
        if (!any() || open_[q] == 0) return 0;
        kept_[q] = epoch;
        return bytes_[q];
    }
    // The epoch of its replica in which a request ended; kNotKept: it keeps nothing.
    i64 kept(i64 giver) const { return kept_[static_cast<std::size_t>(giver)]; }
    bool open(i64 giver) const { return open_[static_cast<std::size_t>(giver)] > 0; }
    // One of its hand-overs is done. Whether it was the last of what is kept.
    bool done(i64 giver) {
        const auto q = static_cast<std::size_t>(giver);
        return --open_[q] == 0 && kept_[q] != kNotKept;
    }

    std::size_t begin(const Moving& moving) {
        if (free_.empty()) {
            moves_.push_back(moving);
            return moves_.size() - 1;
        }
        const std::size_t id = free_.back();
        free_.pop_back();
        moves_[id] = moving;
        return id;
    }
    Moving end(std::size_t id) {
        free_.push_back(id);
        return moves_[id];
    }
    Moving& moving(std::size_t id) { return moves_[id]; }

    void book(i64 taker, const Booking& booking) { bookings_.emplace(taker, booking); }
    // nullptr: it has none.
    Booking* booking(i64 taker) {
        if (bookings_.empty()) return nullptr;
        const auto it = bookings_.find(taker);
        return it == bookings_.end() ? nullptr : &it->second;
    }
    void forget(i64 taker) { bookings_.erase(taker); }

  private:
    const Requests& requests_;
    std::vector<std::int32_t> open_;  // hand-overs of a request that are not done
    std::vector<i64> bytes_;          // the most that one of them moves
    std::vector<i64> kept_;
    std::vector<Moving> moves_;
    std::vector<std::size_t> free_;
    std::unordered_map<i64, Booking> bookings_;  // only looked up, never walked
};

}  // namespace dcsim
