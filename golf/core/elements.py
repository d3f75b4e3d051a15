"""Element symbols by atomic number, for environments without RDKit and ASE."""

SYMBOLS = (
    "X H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As "
    "Se Br Kr Rb Sr Y Zr Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd "
    "Tb Dy Ho Er Tm Yb Lu Hf Ta W Re Os Ir Pt Au Hg Tl Pb Bi Po At Rn "
    "Fr Ra Ac Th Pa U Np Pu Am Cm Bk Cf Es Fm Md No Lr Rf Db Sg Bh Hs Mt Ds Rg Cn Nh Fl Mc Lv Ts Og"
).split()

MAX_NUMBER = 100
"""Rows of the network's embedding, as in SchNetPack: it covers the elements with smaller atomic numbers."""

NETWORK_SYMBOLS = SYMBOLS[1:MAX_NUMBER]
"""Symbols of the elements that a network can have."""

MMFF_NUMBERS = (1, 3, 6, 7, 8, 9, 11, 12, 14, 15, 16, 17, 19, 20, 26, 29, 30, 35, 53)
"""Atomic numbers that MMFF94 has parameters for, metals as ions: Halgren, J. Comput. Chem. 17, 490 (1996)."""
