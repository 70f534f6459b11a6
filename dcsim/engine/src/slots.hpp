// A hash table from a node to the slot of what is known of it: linear probing, no tombstones.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "ticks.hpp"

namespace dcsim {

class Slots {
  public:
    static constexpr std::uint32_t kNone = ~std::uint32_t{0};

    std::uint32_t find(i64 node) const {
        if (count_ == 0) return kNone;
        for (std::size_t at = home(node);; at = next(at)) {
            if (cells_[at].slot == kNone) return kNone;
            if (cells_[at].node == node) return cells_[at].slot;
        }
    }
    // The node must not be there.
    void insert(i64 node, std::uint32_t slot) {
        if (2 * (count_ + 1) > cells_.size()) grow();
        put(node, slot);
        ++count_;
    }
    // The node must be there. What was pushed past it moves back, so that no probe breaks off.
    void erase(i64 node) {
        std::size_t hole = home(node);
        while (cells_[hole].node != node) hole = next(hole);
        for (std::size_t at = next(hole); cells_[at].slot != kNone; at = next(at)) {
            const std::size_t way = (at - home(cells_[at].node)) & mask();
            if (way < ((at - hole) & mask())) continue;
            cells_[hole] = cells_[at];
            hole = at;
        }
        cells_[hole].slot = kNone;
        --count_;
    }
    void clear() {
        cells_.clear();
        count_ = 0;
    }

  private:
    struct Cell {
        i64 node = 0;
        std::uint32_t slot = kNone;
    };

    std::size_t mask() const { return cells_.size() - 1; }
    std::size_t next(std::size_t at) const { return (at + 1) & mask(); }
    // Nodes are counted upwards, so neighbours would be used together: spread them.
    std::size_t home(i64 node) const {
        return static_cast<std::size_t>((static_cast<std::uint64_t>(node) * 0x9E3779B97F4A7C15u) >> 32) & mask();
    }
    void put(i64 node, std::uint32_t slot) {
        std::size_t at = home(node);
        while (cells_[at].slot != kNone) at = next(at);
        cells_[at] = {node, slot};
    }
    void grow() {
        std::vector<Cell> old(cells_.empty() ? 16 : 2 * cells_.size());
        old.swap(cells_);
        for (const Cell& cell : old)
            if (cell.slot != kNone) put(cell.node, cell.slot);
    }

    std::vector<Cell> cells_;  // a power of two, at most half full
    std::size_t count_ = 0;
};

}  // namespace dcsim
