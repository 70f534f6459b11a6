// Content that will be read again: what somebody who knew the future would keep, by how long for.
#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

#include "timeline.hpp"

namespace dcsim {

class Useful {
  public:
    // Nothing is kept account of where no edges of gaps are given.
    Useful(const Tables& tables, Bins bins)
        : tables_(tables), bins_(bins), last_(tables.gaps.empty() ? 0 : tables.nodes.size(), kNeverLeft) {
        const std::size_t size = any() ? groups() * bins_.count() : 0;
        whole_.assign(size, 0);
        part_.assign(size, 0);
        reused_.assign(size, 0);
    }

    bool any() const { return !tables_.gaps.empty(); }
    std::size_t classes() const { return tables_.classes.size(); }
    std::size_t groups() const { return classes() * (tables_.gaps.size() + 1); }

    // The path of a node is left, or asked for, at `t`.
    void left(i64 t, i64 node) {
        for (i64 n = node; n >= 0; n = row(n).parent) last_[static_cast<std::size_t>(n)] = t;
    }
    void asked(i64 t, i64 node) {
        for (i64 n = node; n >= 0; n = row(n).parent) {
            i64& last = last_[static_cast<std::size_t>(n)];
            if (last == kNeverLeft) continue;
            hold(row(n), last, t);
            last = t;
        }
    }

    // Mean bytes by class and gap, bin by bin; all have been asked for.
    std::vector<i64> means() {
        for (std::size_t g = 0; g < groups(); ++g) {
            i64 bytes = 0;
            for (std::size_t bin = 0; bin < bins_.count(); ++bin) {
                const i64 length = bins_.end(bin) - bins_.begin(bin);
                bytes += whole_[at(g, bin)];
                whole_[at(g, bin)] = bytes + static_cast<i64>(part_[at(g, bin)] / length);
            }
        }
        return std::move(whole_);
    }
    std::vector<i64>& reused() { return reused_; }

  private:
    static constexpr i64 kNeverLeft = -1;

    const Node& row(i64 n) const { return tables_.nodes[static_cast<std::size_t>(n)]; }
    std::size_t at(std::size_t group, std::size_t bin) const { return bin * groups() + group; }

    // In the bins in between all the time, in the first and the last for a part of it.
    void hold(const Node& node, i64 from, i64 to) {
        const auto& gaps = tables_.gaps;
        const auto gap = static_cast<std::size_t>(std::upper_bound(gaps.begin(), gaps.end(), to - from) - gaps.begin());
        const std::size_t group = static_cast<std::size_t>(node.klass) * (gaps.size() + 1) + gap;
        const std::size_t first = bins_.of(from), last = bins_.of(to);
        reused_[at(group, last)] += node.bytes;
        if (first == last) {
            part_[at(group, first)] += static_cast<i128>(node.bytes) * (to - from);
            return;
        }
        part_[at(group, first)] += static_cast<i128>(node.bytes) * (bins_.end(first) - from);
        part_[at(group, last)] += static_cast<i128>(node.bytes) * (to - bins_.begin(last));
        whole_[at(group, first + 1)] += node.bytes;
        whole_[at(group, last)] -= node.bytes;
    }

    const Tables& tables_;
    Bins bins_;
    std::vector<i64> last_;  // of each node: when it was left or asked for last
    std::vector<i64> whole_, reused_;  // by bin, class and gap; whole_: what begins with a bin or ends before it
    std::vector<i128> part_;
};

}  // namespace dcsim
