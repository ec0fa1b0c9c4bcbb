/* What a device fills in, and what all devices have in common. Only src/device includes this.
 *
 * A device is a struct of its own that begins with struct device; its opener fills in `ops`,
 * `name`, `precisions` and `best`. device.c checks shapes and hands on, so an operation here may
 * rely on what device.h states: tensors of this device, of the shapes given there. */
#ifndef DOCUSEARCH_DEVICE_INTERNAL_H
#define DOCUSEARCH_DEVICE_INTERNAL_H

#include "device/device.h"

struct device {
    const struct device_ops *ops;
    const char *name;
    unsigned precisions; /* 1 << PRECISION_…, each that weights may have */
    enum precision best;
};

/* memory is the device's: where the rows lie, or what stands for it. */
struct tensor {
    struct device *device;
    int64_t rows, cols;
    void *memory;
};

struct weight {
    struct device *device;
    struct weight_shape shape;
    const void *packed; /* as weight_open was given it */
    void *memory;       /* the device's own copy, or NULL */
};

struct device_ops {
    void (*close)(struct device *device);
    void (*info)(struct device_info *out, const struct device *device); /* all but name */
    int64_t (*room_bytes)(const struct device *device);
    void (*run)(struct device *device, int n, void (*work)(void *ctx, int i, int thread),
                void *ctx);

    /* Sets memory of a tensor whose other fields are set. */
    bool (*tensor_open)(struct tensor *tensor, struct error *err);
    void (*tensor_close)(struct tensor *tensor); /* memory may be NULL */
    bool (*tensor_write)(struct tensor *tensor, int64_t row, int64_t n, const float *values,
                         struct error *err);
    bool (*tensor_read)(float *values, const struct tensor *tensor, int64_t row, int64_t n,
                        struct error *err);

    const char *(*weight_layout)(const struct device *device, enum precision precision);
    size_t (*weight_bytes)(const struct device *device, const struct weight_shape *shape);
    bool (*weight_pack)(void *out, struct device *device, const struct weight_shape *shape,
                        const struct weight_source *sources, int n_sources, struct error *err);
    /* Sets memory of a weight whose other fields are set; may leave it NULL. */
    bool (*weight_open)(struct weight *weight, struct error *err);
    void (*weight_close)(struct weight *weight);

    bool (*linear)(struct tensor *out, const struct tensor *in, const struct weight *weight,
                   const struct tensor *bias, enum activation activation,
                   const struct tensor *residual, struct error *err);
    bool (*gated)(struct tensor *out, const struct tensor *in, const struct weight *weight,
                  enum activation activation, struct error *err);
    bool (*layer_norm)(struct tensor *out, const struct tensor *in, const struct tensor *gain,
                       const struct tensor *bias, float epsilon, struct error *err);
    bool (*rms_norm)(struct tensor *out, const struct tensor *in, const struct tensor *gain,
                     float epsilon, struct error *err);
    bool (*add)(struct tensor *out, const struct tensor *in, struct error *err);
    bool (*scale)(struct tensor *out, float factor, struct error *err);
    bool (*copy_rows)(struct tensor *out, int64_t to, const struct tensor *in, int64_t from,
                      int64_t n, struct error *err);
    bool (*rope)(struct tensor *qkv, const struct attention_shape *shape,
                 const struct sequences *sequences, float base, struct error *err);
    bool (*attention)(struct tensor *out, const struct tensor *qkv,
                      const struct attention_shape *shape, const struct sequences *sequences,
                      struct error *err);
    bool (*mean_pool)(struct tensor *out, const struct tensor *in,
                      const struct sequences *sequences, struct error *err);
    bool (*normalize)(struct tensor *out, const struct tensor *in, struct error *err);
};

/* cpu/cpu.c. A probe says whether the device is there, else why not, without opening it. */
bool cpu_device_probe(char reason[96]);
bool cpu_device_open(struct device **out, int n_threads, struct error *err);

#endif
