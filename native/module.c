/* SPDX-License-Identifier: Apache-2.0 */
/* weighmaster.pack._native: buffers in, bytes or a status out. Limited API of CPython 3.11. The GIL is released while the
 * codec works; every size is compared with the buffers here, whatever the caller has checked. */
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030b0000
#include <Python.h>

#include <string.h>

#include "codec.h"

/* As NumPy lays it out: begin, rows, words, patches, crc. */
_Static_assert(sizeof(struct wm_chunk) == 24, "a record of a chunk has 24 bytes");

static const struct wm_path *path_of(const char *name) {
    for (const struct wm_path *const *path = wm_paths(); *path != NULL; path++) {
        if (strcmp(wm_path_name(*path), name) == 0) {
            return *path;
        }
    }
    PyErr_Format(PyExc_ValueError, "this CPU has no path %s", name);
    return NULL;
}

/* Buffers of one call, released together. */
enum { MOST = 10 };
struct buffers {
    Py_buffer view[MOST];
    int count;
};

static Py_buffer *next(struct buffers *buffers) { return &buffers->view[buffers->count++]; }

static void release(struct buffers *buffers) {
    for (int i = 0; i < buffers->count; i++) {
        if (buffers->view[i].obj != NULL) {
            PyBuffer_Release(&buffers->view[i]);
        }
    }
}

static int has(const Py_buffer *view, uint64_t count, size_t size, const char *what) {
    if (count > (uint64_t)PY_SSIZE_T_MAX / size || (uint64_t)view->len != count * size) {
        PyErr_Format(PyExc_ValueError, "%s: wrong size", what);
        return 0;
    }
    if (count != 0 && (uintptr_t)view->buf % (size < 8 ? size : 8) != 0) {
        PyErr_Format(PyExc_ValueError, "%s: not aligned", what);
        return 0;
    }
    return 1;
}

/* Header and tables: eight pairs of lowest and count, and the frequencies of all tables, one after another. */
static int read_layout(struct wm_layout *layout, PyObject *head, const Py_buffer *tables, const Py_buffer *shares) {
    unsigned int codec, dtype, bits, variant;
    unsigned long long cols;
    if (!PyArg_ParseTuple(head, "IIIIK", &codec, &dtype, &bits, &variant, &cols)) {
        return 0;
    }
    layout->codec = codec;
    layout->dtype = dtype;
    layout->table_bits = bits;
    layout->variant = variant;
    layout->cols = cols;
    if (!has(tables, 2 * WM_CLASSES, sizeof(int32_t), "tables")) {
        return 0;
    }
    const int32_t *pair = tables->buf;
    uint64_t total = 0;
    for (int i = 0; i < WM_CLASSES; i++) {
        if (pair[2 * i] < -255 || pair[2 * i] > 255 || pair[2 * i + 1] < 0 || pair[2 * i + 1] > WM_MAX_SYMBOLS) {
            PyErr_SetString(PyExc_ValueError, "tables: symbols out of range");
            return 0;
        }
        layout->table[i].lowest = pair[2 * i];
        layout->table[i].count = (uint32_t)pair[2 * i + 1];
        layout->table[i].frequency = (const uint16_t *)shares->buf + total;
        total += layout->table[i].count;
    }
    if (!has(shares, total, sizeof(uint16_t), "frequencies")) {
        return 0;
    }
    if (!wm_layout_fits(layout)) {
        PyErr_SetString(PyExc_ValueError, "header and tables do not fit together");
        return 0;
    }
    return 1;
}

static PyObject *failed(enum wm_status status) {
    if (status == WM_NO_MEMORY) {
        return PyErr_NoMemory();
    }
    if (status == WM_NO_FREQUENCY) {
        PyErr_SetString(PyExc_ValueError, "a symbol has no frequency in the table of its class");
    } else {
        PyErr_SetString(PyExc_ValueError, "sizes do not fit together");
    }
    return NULL;
}

static PyObject *decode(PyObject *Py_UNUSED(self), PyObject *args) {
    struct buffers b = {.count = 0};
    struct wm_layout layout = {0};
    const char *name;
    PyObject *head, *result = NULL;
    Py_buffer *tables = next(&b), *shares = next(&b), *row_scale = next(&b), *col_scale = next(&b);
    Py_buffer *row_class = next(&b), *col_class = next(&b), *chunks = next(&b), *blob = next(&b), *out = next(&b);
    if (!PyArg_ParseTuple(args, "sO!y*y*y*y*y*y*y*y*w*", &name, &PyTuple_Type, &head, tables, shares, row_scale,
                          col_scale, row_class, col_class, chunks, blob, out)) {
        return NULL; /* buffers taken so far have been released */
    }
    const struct wm_path *path = path_of(name);
    if (path == NULL || !read_layout(&layout, head, tables, shares)) {
        goto end;
    }
    const int levels = layout.codec == WM_LEVELS;
    layout.rows = (uint64_t)row_class->len;
    if (!has(row_scale, levels ? layout.rows : 0, 2, "row scales") ||
        !has(col_scale, levels ? layout.cols : 0, 2, "column scales") ||
        !has(col_class, layout.cols, 1, "column classes") ||
        !has(chunks, (uint64_t)chunks->len / sizeof(struct wm_chunk), sizeof(struct wm_chunk), "chunks")) {
        goto end;
    }
    layout.row_scale = row_scale->buf;
    layout.col_scale = col_scale->buf;
    layout.row_class = row_class->buf;
    layout.col_class = col_class->buf;
    enum wm_status status;
    size_t where = 0;
    Py_BEGIN_ALLOW_THREADS
    status = wm_decode(path, &layout, blob->buf, (size_t)blob->len, chunks->buf,
                       (size_t)chunks->len / sizeof(struct wm_chunk), out->buf, (size_t)out->len, &where);
    Py_END_ALLOW_THREADS
    if (status == WM_BAD_CALL || status == WM_NO_MEMORY) {
        failed(status);
    } else {
        result = Py_BuildValue("in", (int)status, (Py_ssize_t)where);
    }
end:
    release(&b);
    return result;
}

/* Encode all chunks into a list of (words, bytes). */
static PyObject *encode_chunks(const struct wm_path *path, const struct wm_encoder *encoder,
                               const struct wm_layout *layout, const int16_t *symbols, uint64_t band) {
    PyObject *list = PyList_New(0);
    uint8_t *scratch = PyMem_Malloc((size_t)(WM_STATES + 2 * band * layout->cols));
    if (list == NULL || scratch == NULL) {
        goto bad;
    }
    for (uint64_t row = 0; row < layout->rows; row += band) {
        const uint64_t rows = layout->rows - row < band ? layout->rows - row : band;
        enum wm_status status;
        uint32_t words = 0;
        Py_BEGIN_ALLOW_THREADS
        status = wm_encode(path, encoder, symbols + row * layout->cols, layout->row_class + row, rows, scratch, &words);
        Py_END_ALLOW_THREADS
        if (status != WM_OK) {
            failed(status);
            goto bad;
        }
        PyObject *pair = Py_BuildValue("Iy#", words, (const char *)scratch, (Py_ssize_t)(WM_STATES + 2 * (size_t)words));
        const int appended = pair == NULL ? -1 : PyList_Append(list, pair);
        Py_XDECREF(pair);
        if (appended < 0) {
            goto bad;
        }
    }
    PyMem_Free(scratch);
    return list;
bad:
    PyMem_Free(scratch);
    Py_XDECREF(list);
    return PyErr_Occurred() ? NULL : PyErr_NoMemory();
}

static PyObject *encode(PyObject *Py_UNUSED(self), PyObject *args) {
    struct buffers b = {.count = 0};
    struct wm_layout layout = {0};
    struct wm_encoder *encoder = NULL;
    const char *name;
    unsigned long long band;
    PyObject *head, *result = NULL;
    Py_buffer *tables = next(&b), *shares = next(&b), *row_class = next(&b), *col_class = next(&b), *symbols = next(&b);
    if (!PyArg_ParseTuple(args, "sO!Ky*y*y*y*y*", &name, &PyTuple_Type, &head, &band, tables, shares, row_class,
                          col_class, symbols)) {
        return NULL;
    }
    const struct wm_path *path = path_of(name);
    if (path == NULL || !read_layout(&layout, head, tables, shares)) {
        goto end;
    }
    layout.rows = (uint64_t)row_class->len;
    if (band < 1 || band > 1U << 24 || band * layout.cols > 1U << 24) {
        failed(WM_BAD_CALL);
        goto end;
    }
    if (!has(col_class, layout.cols, 1, "column classes") ||
        !has(symbols, layout.rows * layout.cols, sizeof(int16_t), "symbols")) {
        goto end;
    }
    layout.row_class = row_class->buf;
    layout.col_class = col_class->buf;
    const enum wm_status status = wm_encoder_new(&layout, &encoder);
    result = status == WM_OK ? encode_chunks(path, encoder, &layout, symbols->buf, band) : failed(status);
    wm_encoder_free(encoder);
end:
    release(&b);
    return result;
}

static int matrix_fits(unsigned int dtype, unsigned long long rows, unsigned long long cols, const Py_buffer *data) {
    if (dtype < WM_BFLOAT16 || dtype > WM_FLOAT32 || rows < 1 || cols < 1 || rows > UINT64_C(1) << 40 ||
        cols > UINT64_C(1) << 40 || rows > (uint64_t)PY_SSIZE_T_MAX / 8 / cols) {
        PyErr_SetString(PyExc_ValueError, "a dtype of levels, and rows and cols of at least 1");
        return 0;
    }
    const size_t size = wm_itemsize(dtype);
    if ((uint64_t)data->len != rows * cols * size) {
        PyErr_SetString(PyExc_ValueError, "data: wrong size");
        return 0;
    }
    return 1;
}

static PyObject *energies(PyObject *Py_UNUSED(self), PyObject *args) {
    struct buffers b = {.count = 0};
    const char *name;
    unsigned int dtype;
    unsigned long long rows, cols;
    PyObject *result = NULL;
    Py_buffer *data = next(&b), *row = next(&b), *col = next(&b);
    if (!PyArg_ParseTuple(args, "sIKKy*w*w*", &name, &dtype, &rows, &cols, data, row, col)) {
        return NULL;
    }
    const struct wm_path *path = path_of(name);
    if (path != NULL && matrix_fits(dtype, rows, cols, data) && has(row, rows, sizeof(double), "row sums") &&
        has(col, cols, sizeof(double), "column sums")) {
        int finite;
        Py_BEGIN_ALLOW_THREADS
        finite = wm_energies(path, dtype, data->buf, rows, cols, row->buf, col->buf);
        Py_END_ALLOW_THREADS
        result = PyBool_FromLong(finite);
    }
    release(&b);
    return result;
}

static PyObject *quantize(PyObject *Py_UNUSED(self), PyObject *args) {
    struct buffers b = {.count = 0};
    const char *name;
    unsigned int dtype;
    unsigned long long rows, cols;
    PyObject *result = NULL;
    Py_buffer *data = next(&b), *row_scale = next(&b), *col_scale = next(&b), *levels = next(&b);
    if (!PyArg_ParseTuple(args, "sIKKy*y*y*w*", &name, &dtype, &rows, &cols, data, row_scale, col_scale, levels)) {
        return NULL;
    }
    const struct wm_path *path = path_of(name);
    if (path != NULL && matrix_fits(dtype, rows, cols, data) && has(row_scale, rows, 2, "row scales") &&
        has(col_scale, cols, 2, "column scales") && has(levels, rows * cols, sizeof(int16_t), "levels")) {
        enum wm_status status;
        Py_BEGIN_ALLOW_THREADS
        status = wm_quantize(path, dtype, data->buf, rows, cols, row_scale->buf, col_scale->buf, levels->buf);
        Py_END_ALLOW_THREADS
        if (status == WM_OK) {
            result = Py_BuildValue("");
        } else if (status == WM_BAD_CALL) {
            PyErr_SetString(PyExc_ValueError, "scales: expected normal positive bfloat16");
        } else {
            failed(status);
        }
    }
    release(&b);
    return result;
}

static PyObject *histogram(PyObject *Py_UNUSED(self), PyObject *args) {
    struct buffers b = {.count = 0};
    PyObject *result = NULL;
    Py_buffer *levels = next(&b), *row_class = next(&b), *col_class = next(&b), *counts = next(&b);
    if (!PyArg_ParseTuple(args, "y*y*y*w*", levels, row_class, col_class, counts)) {
        return NULL;
    }
    const uint64_t rows = (uint64_t)row_class->len, cols = (uint64_t)col_class->len;
    if (rows == 0 || cols == 0 || rows > (uint64_t)PY_SSIZE_T_MAX / 2 / cols) {
        PyErr_SetString(PyExc_ValueError, "rows and cols of at least 1");
    } else if (has(levels, rows * cols, sizeof(int16_t), "levels") &&
               has(counts, WM_CLASSES * WM_MAX_SYMBOLS, sizeof(int64_t), "counts")) {
        int within;
        Py_BEGIN_ALLOW_THREADS
        within = wm_histogram(levels->buf, rows, cols, row_class->buf, col_class->buf, counts->buf);
        Py_END_ALLOW_THREADS
        if (within) {
            result = Py_BuildValue("");
        } else {
            PyErr_SetString(PyExc_ValueError, "a level beyond +-255");
        }
    }
    release(&b);
    return result;
}

static PyObject *crc32(PyObject *Py_UNUSED(self), PyObject *args) {
    Py_buffer data;
    int plain;
    if (!PyArg_ParseTuple(args, "y*p", &data, &plain)) {
        return NULL;
    }
    const uint32_t crc = wm_crc32(data.buf, (size_t)data.len, plain);
    PyBuffer_Release(&data);
    return PyLong_FromUnsignedLong(crc);
}

static PyObject *paths(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(none)) {
    PyObject *list = PyList_New(0), *tuple = NULL;
    int bad = list == NULL;
    for (const struct wm_path *const *path = wm_paths(); !bad && *path != NULL; path++) {
        PyObject *name = PyUnicode_FromString(wm_path_name(*path));
        bad = name == NULL || PyList_Append(list, name) < 0;
        Py_XDECREF(name);
    }
    if (!bad) {
        tuple = PyList_AsTuple(list);
    }
    Py_XDECREF(list);
    return tuple;
}

static PyMethodDef methods[] = {
    {"paths", paths, METH_NOARGS, "Return the names of the paths that this CPU has, the fastest first."},
    {"decode", decode, METH_VARARGS, "Rebuild consecutive chunks; return a status and the chunk that it is about."},
    {"encode", encode, METH_VARARGS, "Return words (number), and states with words (bytes), of every chunk."},
    {"energies", energies, METH_VARARGS, "Write sums of squares of rows and columns; return whether all are finite."},
    {"quantize", quantize, METH_VARARGS, "Write the nearest level of every element."},
    {"histogram", histogram, METH_VARARGS, "Write the occurrences by class and level."},
    {"crc32", crc32, METH_VARARGS, "Return the CRC-32 of data; plain: without special instructions."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "weighmaster.pack._native",
    .m_doc = "Codec of packs, compiled (spec/pack.md).",
    .m_size = 0,
    .m_methods = methods,
};

PyMODINIT_FUNC PyInit__native(void);
PyMODINIT_FUNC PyInit__native(void) {
    wm_setup();
    return PyModule_Create(&definition);
}
