#include "hypervisor/kvm/irq_lines.h"

namespace kumoi::hypervisor {

class IrqLines::Line final : public IrqLine {
public:
    Line(IrqLines& lines, uint32_t gsi) : lines_(lines), gsi_(gsi) {}
    ~Line() override { Line::set_level(false); }
    void set_level(bool asserted) override {
        const std::lock_guard lock(lines_.mutex_);
        if (asserted != asserted_) {
            asserted_ = asserted;
            lines_.change(gsi_, asserted);
        }
    }

private:
    IrqLines& lines_;
    const uint32_t gsi_;
    bool asserted_ = false;
};

Result<std::unique_ptr<IrqLine>> IrqLines::open(uint32_t gsi) {
    if (gsi >= kLineCount) {
        return Error::invalid("interrupt line {} does not exist: the board has lines 0 to {}", gsi,
                              kLineCount - 1);
    }
    return std::unique_ptr<IrqLine>(std::make_unique<Line>(*this, gsi));
}

void IrqLines::change(uint32_t gsi, bool asserted) {
    change_one(gsi, asserted);
    const uint32_t pirq = gsi - board::kPciIntxGsiFirst;  // wraps to a large number below
    if (pirq < board::kPirqCount && routes_[pirq] != 0) {
        change_one(routes_[pirq], asserted);
    }
}

void IrqLines::change_one(uint32_t gsi, bool asserted) {
    const uint32_t before = holders_[gsi];
    holders_[gsi] = asserted ? before + 1 : before - 1;
    if (before == 0 || holders_[gsi] == 0) {
        drive_(gsi, asserted);
    }
}

void IrqLines::route_pirq(uint32_t pirq, uint32_t isa_irq) {
    const std::lock_guard lock(mutex_);
    if (pirq >= routes_.size() || isa_irq >= board::kPciIntxGsiFirst || routes_[pirq] == isa_irq) {
        return;
    }
    const uint32_t holders = holders_[board::kPciIntxGsiFirst + pirq];
    for (uint32_t i = 0; i < holders && routes_[pirq] != 0; ++i) {
        change_one(routes_[pirq], false);
    }
    routes_[pirq] = isa_irq;
    for (uint32_t i = 0; i < holders && isa_irq != 0; ++i) {
        change_one(isa_irq, true);
    }
}

}  // namespace kumoi::hypervisor
