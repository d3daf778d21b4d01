// The files of object_tables/, compiled in by api/CMakeLists.txt.
#pragma once

namespace kumoi::nova {

extern const char kObjectTableZed[];
extern const char kObjectTableGazpacho[];

}  // namespace kumoi::nova
