// A new image on the root volume of a server that is rebuilt (microversion 2.93): the volume is
// given back to Cinder, which writes the image and says when it has.
#pragma once

#include <string>

#include "compute/manager/verb.h"

namespace kumoi::compute {

// The guest is off. BuildAbortException when Cinder does not do it in time.
Result<void> reimage_root_volume(NodeServices& services, const RequestContext& context,
                                 const Instance& instance, const std::string& image_id);

}  // namespace kumoi::compute
