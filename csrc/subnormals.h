// Numbers too small to be normal taken as zero, for as long as this stands, in this thread.

#pragma once

#include "platform.h"

namespace nomoat {

// Far tokens get probabilities, and their products with gradients, below 1e-38. An x86 processor computes with such
// numbers a hundred times slower than with others; what they would add to a sum is lost in it anyway. Arm's are not slow.
class SubnormalsAsZero {
public:
#if NM_X86
    SubnormalsAsZero() : before_(_mm_getcsr()) { _mm_setcsr(before_ | 0x8040); }  // flush results, and take inputs so
    ~SubnormalsAsZero() { _mm_setcsr(before_); }
    SubnormalsAsZero(const SubnormalsAsZero&) = delete;
    SubnormalsAsZero& operator=(const SubnormalsAsZero&) = delete;

private:
    unsigned before_;
#endif
};

}  // namespace nomoat
