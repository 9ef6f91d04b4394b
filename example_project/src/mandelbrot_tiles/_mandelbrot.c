/* The Mandelbrot set in colour: the escape time of each point, and its colour.
 *
 * Coordinates are exact binary fractions and are only halved. A point therefore has the same colour in every tile,
 * and so does its mirror image below the real axis. The build turns off fused multiply-adds (-ffp-contract=off), so
 * that every architecture rounds in the same way.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* A point has escaped when |z|^2 > FAR. A limit of 4 would suffice as a proof; the larger limit makes the fraction
 * between two iterations smooth, as colours need it. */
static const double FAR = 65536.0;
static const double LOG2_FAR = 16.0;

/* ---- Escape times -------------------------------------------------------------------------------------------
 *
 * The operations of an orbit depend on each other. LANES orbits in parallel, two in a vector register, use the
 * latency; they are checked after each BLOCK of iterations. A lane whose point is finished starts with the next
 * point, so that a slow point does not delay the others.
 */
enum { LANES = 8, PAIR = 2, PAIRS = LANES / PAIR, BLOCK = 16 };

typedef double Pair __attribute__((vector_size(PAIR * sizeof(double))));

typedef union {
    Pair pair[PAIRS];
    double lane[LANES];
} Lanes;

/* The state of a lane. */
typedef struct {
    Py_ssize_t point; /* -1: none */
    long iterations;
    double seen_x, seen_y; /* the position of the orbit after a power of two of blocks */
    long look_again;
} Task;

typedef struct {
    Lanes x, y, re, im;
    Task task[LANES];
} Orbits;

/* Return whether a point is in the main cardioid or in the disk beside it, which are most of the set's area. */
static bool
is_in_large_part(double re, double im)
{
    const double p = re - 0.25, im2 = im * im, q = p * p + im2;
    return q * (q + p) <= 0.25 * im2 || (re + 1.0) * (re + 1.0) + im2 <= 0.0625;
}

/* Start a lane with the next point that needs iterations; return the index at which the search continues. */
static Py_ssize_t
start(Orbits *orbits, int lane, Py_ssize_t point, Py_ssize_t count, const double *re, const double *im, double *time)
{
    while (point < count && is_in_large_part(re[point], im[point])) {
        time[point++] = INFINITY;
    }
    const bool busy = point < count;
    orbits->x.lane[lane] = orbits->y.lane[lane] = 0.0;
    orbits->re.lane[lane] = busy ? re[point] : 0.0;
    orbits->im.lane[lane] = busy ? im[point] : 0.0;
    orbits->task[lane] = (Task){.point = busy ? point : -1, .look_again = BLOCK};
    return busy ? point + 1 : count;
}

/* Compute z -> z^2 + c BLOCK times in every lane. Escaped orbits continue to infinity, which affects no other lane. */
static void
iterate(Orbits *orbits)
{
    Lanes x = orbits->x, y = orbits->y;
    for (int i = 0; i < BLOCK; i++) {
#pragma GCC unroll 4
        for (int k = 0; k < PAIRS; k++) {
            const Pair xy = x.pair[k] * y.pair[k];
            x.pair[k] = x.pair[k] * x.pair[k] - y.pair[k] * y.pair[k] + orbits->re.pair[k];
            y.pair[k] = xy + xy + orbits->im.pair[k];
        }
    }
    orbits->x = x;
    orbits->y = y;
}

/* Return the escape time within the block that starts at (x, y) after a number of iterations. */
static double
exact_escape_time(double x, double y, double re, double im, long iterations)
{
    for (;;) {
        const double xy = x * y;
        x = x * x - y * y + re;
        y = xy + xy + im;
        iterations++;
        const double distance = x * x + y * y;
        if (distance > FAR) {
            return (double)iterations - log2(log2(distance) / LOG2_FAR);
        }
    }
}

/* Return whether an orbit has returned to an earlier position and so never escapes (Brent's cycle detection). */
static bool
is_periodic(Task *task, double x, double y)
{
    if (x == task->seen_x && y == task->seen_y) {
        return true;
    }
    if (task->iterations >= task->look_again) {
        task->seen_x = x;
        task->seen_y = y;
        task->look_again *= 2;
    }
    return false;
}

/* Compute the (fractional) number of iterations after which each point escapes; infinity if it does not escape
 * within limit, which is rounded up to a multiple of BLOCK. */
static void
escape_times(const double *re, const double *im, double *time, Py_ssize_t count, long limit)
{
    Orbits orbits;
    Py_ssize_t next = 0;
    for (int lane = 0; lane < LANES; lane++) {
        next = start(&orbits, lane, next, count, re, im, time);
    }
    for (bool busy = true; busy;) {
        const Lanes before_x = orbits.x, before_y = orbits.y;
        iterate(&orbits);
        busy = false;
        for (int lane = 0; lane < LANES; lane++) {
            Task *task = &orbits.task[lane];
            if (task->point < 0) {
                continue;
            }
            busy = true;
            const double x = orbits.x.lane[lane], y = orbits.y.lane[lane];
            const bool escaped = !(x * x + y * y <= FAR); /* beyond, infinite or not a number */
            const long before = task->iterations;
            task->iterations += BLOCK;
            if (escaped) {
                time[task->point] = exact_escape_time(before_x.lane[lane], before_y.lane[lane], orbits.re.lane[lane],
                                                      orbits.im.lane[lane], before);
            }
            else if (task->iterations >= limit || is_periodic(task, x, y)) {
                time[task->point] = INFINITY;
            }
            else {
                continue;
            }
            next = start(&orbits, lane, next, count, re, im, time);
        }
    }
}

/* ---- Colours ------------------------------------------------------------------------------------------------ */

enum { CHANNELS = 3, COLOURS_PER_OCTAVE = 256, SAMPLES = 16, ROUGH = 24, LARGEST = 4096 };

typedef struct {
    const unsigned char *colours;
    Py_ssize_t count;
} Palette;

/* Buffers: points of a row, their escape times, and the colours of all pixels. */
typedef struct {
    double *re, *im, *time;
    unsigned char *draft; /* the square with a border of one pixel */
} Buffers;

typedef struct {
    double left, top, step;
    Py_ssize_t size;
    long limit;
    Palette palette;
} Square;

/* Return the colour of an escape time. Colours depend on its logarithm, as the time doubles repeatedly near the set. */
static const unsigned char *
colour_of(double time, Palette palette)
{
    static const unsigned char inside[CHANNELS] = {0, 0, 0};
    if (time == INFINITY) {
        return inside;
    }
    const Py_ssize_t index = (Py_ssize_t)(COLOURS_PER_OCTAVE * log2(1.0 + fmax(time, 0.0) / 8.0));
    return palette.colours + CHANNELS * (index % palette.count);
}

static double
re_of_column(const Square *square, Py_ssize_t column)
{
    return square->left + ((double)column + 0.5) * square->step;
}

static double
im_of_row(const Square *square, Py_ssize_t row)
{
    return square->top - ((double)row + 0.5) * square->step;
}

/* Paint one point per pixel, with the border. */
static void
paint_draft(const Square *square, Buffers buffers)
{
    const Py_ssize_t width = square->size + 2;
    for (Py_ssize_t row = 0; row < width; row++) {
        for (Py_ssize_t column = 0; column < width; column++) {
            buffers.re[column] = re_of_column(square, column - 1);
            buffers.im[column] = im_of_row(square, row - 1);
        }
        escape_times(buffers.re, buffers.im, buffers.time, width, square->limit);
        for (Py_ssize_t column = 0; column < width; column++) {
            memcpy(buffers.draft + CHANNELS * (width * row + column), colour_of(buffers.time[column], square->palette),
                   CHANNELS);
        }
    }
}

static bool
differs(const unsigned char *one, const unsigned char *other)
{
    for (int channel = 0; channel < CHANNELS; channel++) {
        if (abs(one[channel] - other[channel]) > ROUGH) {
            return true;
        }
    }
    return false;
}

/* Return whether a pixel of the draft differs from a neighbour. */
static bool
is_rough(const unsigned char *here, Py_ssize_t stride)
{
    return differs(here, here - CHANNELS) || differs(here, here + CHANNELS) || differs(here, here - stride)
           || differs(here, here + stride);
}

static void
average(unsigned char *pixel, const double *time, Palette palette)
{
    unsigned sum[CHANNELS] = {0};
    for (int sample = 0; sample < SAMPLES; sample++) {
        const unsigned char *colour = colour_of(time[sample], palette);
        for (int channel = 0; channel < CHANNELS; channel++) {
            sum[channel] += colour[channel];
        }
    }
    for (int channel = 0; channel < CHANNELS; channel++) {
        pixel[channel] = (unsigned char)((sum[channel] + SAMPLES / 2) / SAMPLES);
    }
}

/* Paint the draft, then replace every rough pixel by the mean of 4 x 4 points: edges get smooth, uniform areas cost
 * little. Because of the border, two tiles agree on the pixels along their common edge. */
static void
paint(unsigned char *out, const Square *square, Buffers buffers)
{
    paint_draft(square, buffers);
    const Py_ssize_t stride = CHANNELS * (square->size + 2);
    for (Py_ssize_t row = 0; row < square->size; row++) {
        const unsigned char *draft = buffers.draft + stride * (row + 1) + CHANNELS;
        unsigned char *pixels = out + CHANNELS * square->size * row;
        memcpy(pixels, draft, (size_t)(CHANNELS * square->size));
        Py_ssize_t count = 0;
        for (Py_ssize_t column = 0; column < square->size; column++) {
            for (int sample = 0; is_rough(draft + CHANNELS * column, stride) && sample < SAMPLES; sample++) {
                buffers.re[count] = re_of_column(square, column) + (2 * (sample % 4) - 3) * square->step / 8;
                buffers.im[count] = im_of_row(square, row) - (2 * (sample / 4) - 3) * square->step / 8;
                count++;
            }
        }
        escape_times(buffers.re, buffers.im, buffers.time, count, square->limit);
        const double *time = buffers.time;
        for (Py_ssize_t column = 0; column < square->size; column++) {
            if (is_rough(draft + CHANNELS * column, stride)) {
                average(pixels + CHANNELS * column, time, square->palette);
                time += SAMPLES;
            }
        }
    }
}

/* ---- Python ------------------------------------------------------------------------------------------------- */

/* Return the pixels of a square as bytes; releases the GIL. NULL with MemoryError if there is too little memory. */
static PyObject *
render_square(const Square *square)
{
    const size_t size = (size_t)square->size, points = SAMPLES * (size + 2);
    PyObject *image = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)(CHANNELS * size * size));
    double *numbers = PyMem_Malloc(3 * points * sizeof(double) + CHANNELS * (size + 2) * (size + 2));
    if (image == NULL || numbers == NULL) {
        PyMem_Free(numbers);
        Py_XDECREF(image);
        return PyErr_NoMemory();
    }
    const Buffers buffers = {numbers, numbers + points, numbers + 2 * points, (unsigned char *)(numbers + 3 * points)};
    unsigned char *out = (unsigned char *)PyBytes_AS_STRING(image);
    Py_BEGIN_ALLOW_THREADS
    paint(out, square, buffers);
    Py_END_ALLOW_THREADS
    PyMem_Free(numbers);
    return image;
}

static PyObject *
render(PyObject *Py_UNUSED(module), PyObject *args)
{
    Square square;
    Py_buffer colours;
    if (!PyArg_ParseTuple(args, "dddnly*:render", &square.left, &square.top, &square.step, &square.size,
                          &square.limit, &colours)) {
        return NULL;
    }
    PyObject *image = NULL;
    if (!isfinite(square.left) || !isfinite(square.top) || !isfinite(square.step)) {
        PyErr_SetString(PyExc_ValueError, "left, top and step must be finite");
    }
    else if (square.size < 1 || square.size > LARGEST || square.limit < 1) {
        PyErr_Format(PyExc_ValueError, "size must be 1 to %d, and limit at least 1", LARGEST);
    }
    else if (colours.len == 0 || colours.len % CHANNELS != 0) {
        PyErr_SetString(PyExc_ValueError, "the palette must be red, green, blue, red, green, blue, ...");
    }
    else {
        square.palette = (Palette){colours.buf, colours.len / CHANNELS};
        image = render_square(&square);
    }
    PyBuffer_Release(&colours);
    return image;
}

static PyObject *
escape(PyObject *Py_UNUSED(module), PyObject *args)
{
    double re, im, time;
    long limit;
    if (!PyArg_ParseTuple(args, "ddl:escape", &re, &im, &limit)) {
        return NULL;
    }
    if (!isfinite(re) || !isfinite(im)) {
        PyErr_SetString(PyExc_ValueError, "re and im must be finite");
        return NULL;
    }
    escape_times(&re, &im, &time, 1, limit);
    return PyFloat_FromDouble(time);
}

static PyMethodDef methods[] = {
    {"render", render, METH_VARARGS,
     "render(left, top, step, size, limit, palette)\n--\n\n"
     "Return size*size RGB pixels, step apart, of the square with the upper left corner left + top*i."},
    {"escape", escape, METH_VARARGS,
     "escape(re, im, limit)\n--\n\n"
     "Return the smooth number of iterations after which a point escapes; inf if it does not escape within limit."},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot slots[] = {
#ifdef Py_mod_multiple_interpreters
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
#endif
#ifdef Py_mod_gil
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "mandelbrot_tiles._mandelbrot",
    .m_doc = "The Mandelbrot set in colour.",
    .m_methods = methods,
    .m_slots = slots,
};

PyMODINIT_FUNC
PyInit__mandelbrot(void)
{
    return PyModuleDef_Init(&definition);
}
