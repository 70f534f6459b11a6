// A winner tree: the least of n keys in O(1), a changed key in O(log n).
// Equal keys go to the lower slot, so the order of ties is fixed.
#pragma once

#include <cstddef>
#include <vector>

namespace dcsim {

template <class Key>
class WinnerTree {
  public:
    WinnerTree(std::size_t slots, Key never) : never_(never) {
        while (width_ < slots) width_ *= 2;
        keys_.assign(width_, never);
        winner_.resize(2 * width_);
        for (std::size_t i = 0; i < width_; ++i) winner_[width_ + i] = i;
        for (std::size_t i = width_; i-- > 1;) winner_[i] = better(winner_[2 * i], winner_[2 * i + 1]);
    }

    void set(std::size_t slot, Key key) {
        keys_[slot] = key;
        for (std::size_t i = (width_ + slot) / 2; i >= 1; i /= 2) {
            const std::size_t winner = better(winner_[2 * i], winner_[2 * i + 1]);
            if (winner == winner_[i] && winner != slot) break;  // nothing changes above
            winner_[i] = winner;
        }
    }
    void clear(std::size_t slot) { set(slot, never_); }

    std::size_t top() const { return winner_[1]; }
    const Key& top_key() const { return keys_[winner_[1]]; }
    const Key& key(std::size_t slot) const { return keys_[slot]; }

  private:
    std::size_t better(std::size_t left, std::size_t right) const {
        return keys_[right] < keys_[left] ? right : left;
    }

    std::size_t width_ = 1;
    Key never_;
    std::vector<Key> keys_;
    std::vector<std::size_t> winner_;
};

}  // namespace dcsim
