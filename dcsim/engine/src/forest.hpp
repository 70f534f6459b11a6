// The prefix forest: what the prompts of a log have in common, built once.
// A node is a run of blocks that are always used together; a request is the
// node in which its prompt ends. What a cache keeps is then a few numbers a
// node, and nothing is hashed or split while it runs.
#pragma once

#include <algorithm>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "ticks.hpp"

namespace dcsim {

using i32 = std::int32_t;

inline std::size_t at(i64 i) { return static_cast<std::size_t>(i); }

// The child of a run that begins with a block, by open addressing.
class Children {
  public:
    // The child; -1, to be written, where there is none. Holds until the next call.
    i32& operator()(i32 parent, i64 block) {
        if (2 * (filled_ + 1) > slots_.size()) grow();
        Slot& slot = find(parent, block);
        if (slot.child < 0) {
            slot = {block, parent, -1};
            ++filled_;
        }
        return slot.child;
    }

  private:
    struct Slot {
        i64 block;
        i32 parent, child = -1;
    };

    Slot& find(i32 parent, i64 block) {
        std::uint64_t hash = static_cast<std::uint64_t>(block) * 0x9E3779B97F4A7C15u;
        hash = (hash ^ static_cast<std::uint32_t>(parent)) * 0xD6E8FEB86659FD93u;
        std::size_t i = hash >> shift_;
        while (slots_[i].child >= 0 && (slots_[i].block != block || slots_[i].parent != parent))
            i = (i + 1) & (slots_.size() - 1);
        return slots_[i];
    }
    void grow() {
        std::vector<Slot> old(2 * slots_.size());
        old.swap(slots_);
        --shift_;
        for (const Slot& slot : old)
            if (slot.child >= 0) find(slot.parent, slot.block) = slot;
    }

    std::vector<Slot> slots_ = std::vector<Slot>(1024);
    int shift_ = 64 - 10;
    std::size_t filled_ = 0;
};

class Forest {
  public:
    struct Run {
        i32 parent;  // -1: none
        i32 blocks;
        i32 above;   // blocks of the runs before it
    };

    // Request r uses the blocks ids[start[r]], ..., ids[start[r + 1] - 1], its prefix from the
    // head on. An id under another parent is another block. The ids are not kept.
    Forest(std::span<const i64> start, std::span<const i64> ids) {
        check(start, ids);
        ends_.reserve(start.size() - 1);
        for (std::size_t r = 0; r + 1 < start.size(); ++r)
            ends_.push_back(add(ids, start[r], start[r + 1]));
        number();
    }

    // A parent comes before its children, and what is used first before what is used later.
    const std::vector<Run>& runs() const { return runs_; }
    // By request: the run at whose end its prompt ends; -1 if it has no blocks.
    const std::vector<i32>& ends() const { return ends_; }
    i64 blocks() const { return blocks_; }

    // Blocks of a prompt that ends in this run.
    i64 through(i32 run) const { return run < 0 ? 0 : i64{runs_[at(run)].above} + runs_[at(run)].blocks; }

  private:
    static constexpr i64 kMost = i64{1} << 30;

    static void check(std::span<const i64> start, std::span<const i64> ids) {
        if (start.empty() || start.front() != 0 || start.back() != static_cast<i64>(ids.size()))
            throw std::invalid_argument("start: begins with 0 and ends with the number of blocks");
        if (static_cast<i64>(start.size()) > kMost) throw std::invalid_argument("start: more than 2^30 requests");
        for (std::size_t r = 0; r + 1 < start.size(); ++r)
            if (start[r + 1] < start[r] || start[r + 1] - start[r] > kMost)
                throw std::invalid_argument("start: request " + std::to_string(r) + " has fewer than 0 or more than 2^30 blocks");
    }

    i32 add(std::span<const i64> ids, i64 from, i64 to) {
        i32 run = -1, above = 0;
        while (from < to) {
            i32& child = children_(run, ids[at(from)]);
            if (child < 0) {
                blocks_ += to - from;
                return child = last_ = create({run, static_cast<i32>(to - from), above}, from, last_);
            }
            const i64* known = &ids[at(begin_[at(child)])];
            const i64* wanted = &ids[at(from)];
            const i64 most = std::min(i64{runs_[at(child)].blocks}, to - from);
            const i32 same = static_cast<i32>(std::mismatch(known + 1, known + most, wanted + 1).first - known);
            run = same < runs_[at(child)].blocks ? split(child, same, known[same]) : child;
            from += same;
            above += same;
        }
        return run;
    }

    i32 create(Run run, i64 begin, i32 before) {
        runs_.push_back(run);
        begin_.push_back(begin);
        before_.push_back(before);
        return static_cast<i32>(runs_.size()) - 1;
    }

    // Cuts the first `blocks` off a run into a run of their own: what ended at its end still does.
    i32 split(i32& child, i32 blocks, i64 next) {
        const i32 lower = child;
        const auto i = at(lower);
        const i32 upper = create({runs_[i].parent, blocks, runs_[i].above}, begin_[i], before_[i]);
        runs_[i] = {upper, runs_[i].blocks - blocks, runs_[i].above + blocks};
        begin_[i] += blocks;
        before_[i] = upper;
        child = upper;
        children_(upper, next) = lower;
        return upper;
    }

    // Numbers the runs by first use. Runs were created in that order, but for those that were
    // split off, which come right before the rest of theirs.
    void number() {
        std::vector<i32> number(runs_.size());
        i32 next = static_cast<i32>(runs_.size());
        for (i32 run = last_; run >= 0; run = before_[at(run)]) number[at(run)] = --next;
        std::vector<Run> ordered(runs_.size());
        for (std::size_t i = 0; i < runs_.size(); ++i) {
            Run run = runs_[i];
            if (run.parent >= 0) run.parent = number[at(run.parent)];
            ordered[at(number[i])] = run;
        }
        runs_ = std::move(ordered);
        for (i32& end : ends_)
            if (end >= 0) end = number[at(end)];
        children_ = {};
        begin_ = {};
        before_ = {};
    }

    std::vector<Run> runs_;
    std::vector<i32> ends_;
    i64 blocks_ = 0;
    // While it is built: the place of a run's blocks among the ids, the run before it in order.
    Children children_;
    std::vector<i64> begin_;
    std::vector<i32> before_;
    i32 last_ = -1;
};

}  // namespace dcsim
