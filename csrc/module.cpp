// An empty Python module around the C functions, so that every platform builds, installs and finds the library the
// way it does any extension. Python calls the functions through ctypes; see src/nomoat/kernels/native.py.

#define PY_SSIZE_T_CLEAN
#include <Python.h>

static PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "_native", "The compiled kernels of nomoat, a C library called through ctypes.",
    -1, nullptr, nullptr, nullptr, nullptr, nullptr,
};

PyMODINIT_FUNC PyInit__native(void) { return PyModule_Create(&definition); }
