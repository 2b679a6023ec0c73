#include "core/sequential/target.h"

#include <gtest/gtest.h>

#include "core/kernels/gram.h"
#include "tests/support/matrices.h"
#include "tests/support/value_or_die.h"

namespace attnprune {
namespace {

using testing::GaussianMatrix;
using testing::ValueOrDie;

class Target : public ::testing::Test {
 protected:
  Target() {
    for (Index i = 0; i < z_.size(); ++i) z_.data()[i] = x_.data()[i] + 0.3f * z_.data()[i];
    AddCross(x_, z_, pool_, cross_);
  }

  double Lambda() const {
    double sum = 0;
    for (Index j = 0; j < inputs_.moments().size(); ++j) sum += inputs_.moments()(j, j);
    return kTargetDamping * sum / static_cast<double>(inputs_.moments().size());
  }
  // X v' at token t.
  static double Give(const Matrix& inputs, const Matrix& w, Index t, Index out) {
    double sum = 0;
    for (Index j = 0; j < inputs.cols(); ++j) {
      sum += static_cast<double>(inputs(t, j)) * static_cast<double>(w(out, j));
    }
    return sum;
  }
  // ||Y - X V'||^2 + lambda ||W - V||^2.
  double Loss(const Matrix& v, double share) const {
    double loss = 0;
    for (Index out = 0; out < w_.rows(); ++out) {
      for (Index t = 0; t < x_.rows(); ++t) {
        const double y = (1 - share) * Give(x_, w_, t, out) + share * Give(z_, w_, t, out);
        const double off = y - Give(x_, v, t, out);
        loss += off * off;
      }
      for (Index j = 0; j < w_.cols(); ++j) {
        const double off = static_cast<double>(w_(out, j)) - static_cast<double>(v(out, j));
        loss += Lambda() * off * off;
      }
    }
    return loss;
  }

  ThreadPool pool_{2};
  const Matrix x_ = GaussianMatrix(100, 20, 1), w_ = GaussianMatrix(70, 20, 3);
  Matrix z_ = GaussianMatrix(100, 20, 2);
  LinearInputs inputs_{Gram(x_, pool_)};
  GramMatrix cross_{20};
};

TEST_F(Target, CrossMomentsAreTheProductsOfBothInputs) {
  for (Index i = 0; i < 20; i += 7) {
    for (Index j = 0; j < 20; j += 3) {
      double sum = 0;
      for (Index t = 0; t < x_.rows(); ++t) {
        sum += static_cast<double>(x_(t, i)) * static_cast<double>(z_(t, j));
      }
      EXPECT_NEAR(cross_(i, j), sum, 1e-3);
    }
  }
}

TEST_F(Target, WeightsAreWhereTheLossIsLeast) {
  for (const double share : {0.5, 1.0}) {
    const Matrix best = ValueOrDie(TargetWeights(w_, inputs_, cross_, share, pool_));
    const double least = Loss(best, share);
    EXPECT_LT(least, Loss(w_, share));
    for (const float step : {-0.01f, 0.01f}) {
      for (Index i = 0; i < best.size(); i += 211) {
        Matrix moved = best.Clone();
        moved.data()[i] += step;
        EXPECT_GT(Loss(moved, share), least) << i;
      }
    }
  }
}

TEST_F(Target, WeightsStayWhereNothingOfTheTargetIsDense) {
  const Matrix same = ValueOrDie(TargetWeights(w_, inputs_, cross_, 0, pool_));
  for (Index i = 0; i < same.size(); ++i) EXPECT_EQ(same.data()[i], w_.data()[i]);
}

}  // namespace
}  // namespace attnprune
