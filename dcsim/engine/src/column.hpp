// A column of rows that come at its end and leave at its front, slice by slice; a row keeps its number.
#pragma once

#include <algorithm>
#include <cstddef>
#include <utility>
#include <vector>

namespace dcsim {

template <class T>
class Column {
  public:
    Column() = default;
    Column(std::vector<T> rows) : rows_(std::move(rows)) {}  // NOLINT: a vector is a column

    T& operator[](std::size_t row) { return rows_[row - gone_]; }
    const T& operator[](std::size_t row) const { return rows_[row - gone_]; }
    // Rows that have ever come.
    std::size_t size() const { return gone_ + rows_.size(); }
    bool empty() const { return size() == 0; }

    void add(const Column& more) { rows_.insert(rows_.end(), more.rows_.begin(), more.rows_.end()); }
    void add(std::size_t n, T value) { rows_.resize(rows_.size() + n, value); }

    // Rows from the first to the last, the last not included; all if they are all that is here.
    std::vector<T> take(std::size_t first, std::size_t last) {
        if (first == gone_ && last == size()) {
            gone_ = last;
            return std::exchange(rows_, {});
        }
        return {at(first), at(last)};
    }
    // Rows before this one are not needed any more. They go when they are as many as those that stay, so
    // each row is moved about once.
    void forget(std::size_t row) {
        if (2 * (row - std::min(row, gone_)) < rows_.size()) return;
        rows_.erase(rows_.begin(), at(row));
        gone_ = row;
    }

  private:
    auto at(std::size_t row) { return rows_.begin() + static_cast<std::ptrdiff_t>(row - gone_); }

    std::vector<T> rows_;
    std::size_t gone_ = 0;
};

}  // namespace dcsim
