// A device that Paddle takes for one that is no CPU, made of this machine's memory.
//
// Paddle loads it from the folder that CUSTOM_DEVICE_ROOT names, as it loads the plug-ins of NPUs and the like. It has
// no kernels: what is computed on its tensors, Paddle computes on the CPU, in copies. Each of its allocations is
// mapped twice: at the address that Paddle gets nobody may read or write, so that whoever takes a device's memory for
// the host's is ended by SIGSEGV; the copies go through the other one. Paddle itself does that where it adds a gradient
// to one that is there: STAND_IN_OPEN=1 in the environment lets everybody read and write.
//
// What the functions mean: paddle/phi/backends/device_ext.h.

#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>

#include "paddle/phi/backends/device_ext.h"

namespace {

struct Allocation {
  char* readable;
  size_t size;
};

std::map<char*, Allocation> allocations;  // by the address that Paddle gets
std::mutex mutex;

size_t whole_pages(size_t size) {
  const size_t page = sysconf(_SC_PAGESIZE);
  return (size + page - 1) / page * page;
}

C_Status allocate(const C_Device, void** address, size_t size) {
  size = whole_pages(size);
  const int file = memfd_create("stand_in", 0);
  if (file < 0 || ftruncate(file, size) != 0) return C_FAILED;
  const int open = PROT_READ | PROT_WRITE;
  void* closed = mmap(nullptr, size, getenv("STAND_IN_OPEN") ? open : PROT_NONE, MAP_SHARED, file, 0);
  void* readable = mmap(nullptr, size, open, MAP_SHARED, file, 0);
  close(file);
  if (closed == MAP_FAILED || readable == MAP_FAILED) return C_FAILED;
  std::lock_guard<std::mutex> lock(mutex);
  allocations[static_cast<char*>(closed)] = {static_cast<char*>(readable), size};
  *address = closed;
  return C_SUCCESS;
}

C_Status release(const C_Device, void* address, size_t) {
  std::lock_guard<std::mutex> lock(mutex);
  const auto found = allocations.find(static_cast<char*>(address));
  if (found == allocations.end()) return C_ERROR;
  munmap(found->second.readable, found->second.size);
  munmap(address, found->second.size);
  allocations.erase(found);
  return C_SUCCESS;
}

// The address at which device memory may be used; a host's address as it is.
void* usable(const void* address) {
  char* wanted = static_cast<char*>(const_cast<void*>(address));
  std::lock_guard<std::mutex> lock(mutex);
  auto after = allocations.upper_bound(wanted);
  if (after == allocations.begin()) return wanted;
  const auto& [start, allocation] = *std::prev(after);
  return wanted < start + allocation.size ? allocation.readable + (wanted - start) : wanted;
}

C_Status host_allocate(const C_Device, void** address, size_t size) {
  *address = malloc(size);
  return *address ? C_SUCCESS : C_FAILED;
}

C_Status host_release(const C_Device, void* address, size_t) {
  free(address);
  return C_SUCCESS;
}

C_Status fill(const C_Device, void* target, unsigned char value, size_t size) {
  memset(usable(target), value, size);
  return C_SUCCESS;
}

C_Status copy(const C_Device, void* target, const void* source, size_t size) {
  memcpy(usable(target), usable(source), size);
  return C_SUCCESS;
}

C_Status copy_in_stream(const C_Device device, C_Stream, void* target, const void* source, size_t size) {
  return copy(device, target, source, size);
}

// Nothing here runs later than it is called: streams and events are empty.
C_Status nothing() { return C_SUCCESS; }
C_Status of_device(const C_Device) { return C_SUCCESS; }
C_Status of_stream(const C_Device, C_Stream) { return C_SUCCESS; }
C_Status of_event(const C_Device, C_Event) { return C_SUCCESS; }
C_Status of_both(const C_Device, C_Stream, C_Event) { return C_SUCCESS; }

C_Status new_stream(const C_Device, C_Stream* stream) {
  *stream = nullptr;
  return C_SUCCESS;
}

C_Status new_event(const C_Device, C_Event* event) {
  *event = nullptr;
  return C_SUCCESS;
}

C_Status callback(const C_Device device, C_Stream stream, C_Callback call, void* data) {
  C_Status status = C_SUCCESS;
  call(device, stream, data, &status);
  return status;
}

C_Status count(size_t* count) {
  *count = 1;
  return C_SUCCESS;
}

C_Status first(size_t* device) {
  *device = 0;
  return C_SUCCESS;
}

C_Status current(const C_Device device) {
  device->id = 0;
  return C_SUCCESS;
}

C_Status memory(const C_Device, size_t* total, size_t* free) {
  *total = *free = size_t(8) << 30;
  return C_SUCCESS;
}

C_Status smallest_piece(const C_Device, size_t* bytes) {
  *bytes = 64;
  return C_SUCCESS;
}

C_Status yes(const C_Device, bool* supported) {
  *supported = true;
  return C_SUCCESS;
}

}  // namespace

extern "C" void InitPlugin(CustomRuntimeParams* plugin) {
  plugin->device_type = const_cast<char*>("stand_in");
  plugin->sub_device_type = const_cast<char*>("");
  plugin->version.major = PADDLE_CUSTOM_RUNTIME_MAJOR_VERSION;
  plugin->version.minor = PADDLE_CUSTOM_RUNTIME_MINOR_VERSION;
  plugin->version.patch = PADDLE_CUSTOM_RUNTIME_PATCH_VERSION;
  C_DeviceInterface* device = plugin->interface;
  memset(device, 0, sizeof(*device));
  device->size = sizeof(*device);

  device->initialize = device->finalize = nothing;
  device->init_device = device->deinit_device = device->set_device = device->synchronize_device = of_device;
  device->get_device = current;
  device->get_device_count = count;
  device->get_device_list = first;
  device->device_memory_stats = memory;
  device->device_min_chunk_size = smallest_piece;
  device->is_float16_supported = device->is_bfloat16_supported = yes;

  device->create_stream = new_stream;
  device->destroy_stream = device->query_stream = device->synchronize_stream = of_stream;
  device->stream_add_callback = callback;
  device->create_event = new_event;
  device->destroy_event = device->query_event = device->synchronize_event = of_event;
  device->record_event = device->stream_wait_event = of_both;

  device->device_memory_allocate = allocate;
  device->device_memory_deallocate = release;
  device->device_memory_set = fill;
  device->host_memory_allocate = host_allocate;
  device->host_memory_deallocate = host_release;
  device->memory_copy_h2d = device->memory_copy_d2h = device->memory_copy_d2d = copy;
  device->async_memory_copy_h2d = device->async_memory_copy_d2h = device->async_memory_copy_d2d = copy_in_stream;
}
