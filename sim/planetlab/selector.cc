#include "sim/planetlab/selector.h"

#include <algorithm>
#include <cmath>

namespace kumoi::sim {

namespace {

using Matrix = std::vector<std::vector<double>>;

template <class Metric>
size_t smallest(const std::vector<int>& candidates, const Metric& metric) {
    size_t best = 0;
    for (size_t i = 1; i < candidates.size(); ++i) {
        if (metric(candidates[i]) < metric(candidates[best])) {
            best = i;
        }
    }
    return best;
}

// Of deviations from the mean; symmetric.
Matrix products(const Matrix& rows) {
    Matrix centred = rows;
    for (auto& row : centred) {
        double sum = 0;
        for (const double value : row) {
            sum += value;
        }
        const double mean = sum / static_cast<double>(row.size());
        for (double& value : row) {
            value -= mean;
        }
    }
    Matrix result(rows.size(), std::vector<double>(rows.size()));
    for (size_t i = 0; i < rows.size(); ++i) {
        for (size_t j = 0; j <= i; ++j) {
            double sum = 0;
            for (size_t k = 0; k < centred[i].size(); ++k) {
                sum += centred[i][k] * centred[j][k];
            }
            result[i][j] = result[j][i] = sum;
        }
    }
    return result;
}

// The diagonal of the inverse of a positive definite matrix, by Cholesky; empty when it is not one.
std::vector<double> inverse_diagonal(Matrix matrix) {
    const size_t n = matrix.size();
    for (size_t j = 0; j < n; ++j) {
        const double before = matrix[j][j];
        for (size_t k = 0; k < j; ++k) {
            matrix[j][j] -= matrix[j][k] * matrix[j][k];
        }
        if (!(matrix[j][j] > before * 1e-12)) {
            return {};
        }
        matrix[j][j] = std::sqrt(matrix[j][j]);
        for (size_t i = j + 1; i < n; ++i) {
            for (size_t k = 0; k < j; ++k) {
                matrix[i][j] -= matrix[i][k] * matrix[j][k];
            }
            matrix[i][j] /= matrix[j][j];
        }
    }
    std::vector<double> diagonal(n);
    std::vector<double> column(n);
    for (size_t c = 0; c < n; ++c) {  // the column c of the inverse of the lower triangle
        for (size_t i = c; i < n; ++i) {
            double sum = i == c ? 1 : 0;
            for (size_t k = c; k < i; ++k) {
                sum -= matrix[i][k] * column[k];
            }
            column[i] = sum / matrix[i][i];
            diagonal[c] += column[i] * column[i];
        }
    }
    return diagonal;
}

size_t most_correlated(const std::vector<int>& candidates, const Fleet& fleet,
                       const LoadHistory& history) {
    Matrix rows;
    for (const int machine : candidates) {
        std::vector<double>& row = rows.emplace_back();
        for (size_t age = 0; age < history.size(); ++age) {
            row.push_back(history.machine(static_cast<size_t>(machine), age));
        }
    }
    const std::vector<double> correlations = multiple_correlations(rows);
    if (correlations.empty()) {
        return smallest(candidates, [&](int machine) {
            return fleet.machines()[static_cast<size_t>(machine)].ram_mib;
        });
    }
    return static_cast<size_t>(std::max_element(correlations.begin(), correlations.end()) -
                               correlations.begin());
}

}  // namespace

std::vector<double> multiple_correlations(const std::vector<std::vector<double>>& rows) {
    if (rows.size() < 2 || rows.front().size() < rows.size()) {
        return {};
    }
    const Matrix covariance = products(rows);
    std::vector<double> result = inverse_diagonal(covariance);
    // R_i^2 = 1 - 1 / (S_ii (S^-1)_ii), S the matrix of the products of deviations.
    for (size_t i = 0; i < result.size(); ++i) {
        result[i] = 1 - 1 / (covariance[i][i] * result[i]);
    }
    return result;
}

size_t select_machine(Selector selector, const std::vector<int>& candidates, const Fleet& fleet,
                      const LoadHistory& history, Random& random) {
    switch (selector) {
        case Selector::MinimumMigrationTime:
            return smallest(candidates, [&](int machine) {
                return fleet.machines()[static_cast<size_t>(machine)].ram_mib;
            });
        case Selector::MaximumCorrelation: return most_correlated(candidates, fleet, history);
        case Selector::RandomSelection: return random.below(candidates.size());
        case Selector::MinimumUtilization:
            return smallest(candidates, [&](int id) {
                const Machine& machine = fleet.machines()[static_cast<size_t>(id)];
                return machine.requested / machine.mips;
            });
    }
    return 0;
}

}  // namespace kumoi::sim
