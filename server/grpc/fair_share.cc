#include "server/grpc/fair_share.h"

#include <utility>

namespace attnprune::rpc {

FairShare::FairShare(int places) : most_of_tenant_(places - places / 4), free_(places) {}

void FairShare::Acquire(const std::string& tenant, std::function<void()> go) {
  {
    const MutexLock lock(&mutex_);
    Tenant& own = tenants_[tenant];
    if (free_ == 0 || own.taken == most_of_tenant_) {
      own.waiting.push_back(std::move(go));
      return;
    }
    --free_;
    ++own.taken;
  }
  go();
}

void FairShare::Release(const std::string& tenant) {
  std::function<void()> next;
  {
    const MutexLock lock(&mutex_);
    ++free_;
    const auto own = tenants_.find(tenant);
    --own->second.taken;
    next = TakeNext(tenant);
    if (own->second.taken == 0 && own->second.waiting.empty()) tenants_.erase(own);
  }
  if (next != nullptr) next();
}

bool FairShare::MayGo(const Tenant& tenant) const {
  return !tenant.waiting.empty() && tenant.taken < most_of_tenant_;
}

// Of the tenant behind `after`, that one itself last; null: none may go.
std::function<void()> FairShare::TakeNext(const std::string& after) {
  auto at = tenants_.upper_bound(after);
  for (size_t i = 0; i < tenants_.size(); ++i, ++at) {
    if (at == tenants_.end()) at = tenants_.begin();
    Tenant& tenant = at->second;
    if (!MayGo(tenant)) continue;
    std::function<void()> go = std::move(tenant.waiting.front());
    tenant.waiting.pop_front();
    --free_;
    ++tenant.taken;
    return go;
  }
  return nullptr;
}

}  // namespace attnprune::rpc
