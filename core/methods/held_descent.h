// Conjugate gradients (Fletcher and Reeves) for the weights that a mask keeps: each step of a
// metric from W~, plus a share of the last direction, so that one metric serves many steps.
//
//   d <- z + (z'g / z'g of the last) d  with z the metric's step and g the gradient at W~
//
// The next W~ is W~ + t d, t the least point of the parabola through the loss and its slope at W~
// and the loss at the last t.
#ifndef ATTNPRUNE_CORE_METHODS_HELD_DESCENT_H_
#define ATTNPRUNE_CORE_METHODS_HELD_DESCENT_H_

#include <vector>

#include "core/tensor/matrix.h"

namespace attnprune {

// Matrices are one a map, 0 where its mask prunes but for gradients. One caller at a time.
class HeldDescent {
 public:
  HeldDescent() = default;
  explicit HeldDescent(const std::vector<Matrix>& start);

  // The next direction at W~ = `point`, from where the metric's step leads.
  void Turn(const std::vector<Matrix>& point, const std::vector<Matrix>& solved,
            const std::vector<Matrix>& gradients);
  // W~ + t d of the last t.
  std::vector<Matrix> Reached(const std::vector<Matrix>& point) const;
  // Sets t by the losses at W~ and at Reached(): a tenth of the last at least, 4 times it at most.
  void SetLength(double loss, double reached);
  // After a t that did not help: a quarter of it, along the metric's step alone.
  void Refuse();

  // For saving.
  std::vector<Matrix> start, direction;
  double length = 1;  // t
  double fall = 0;    // -z'g of the last direction; 0: there is none to go on from

 private:
  double slope_ = 0;  // d'g
};

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_METHODS_HELD_DESCENT_H_
