# cmake -DREADME=README.md -DCODE=file.cc -P readme_has.cmake: fails unless README holds CODE whole.
file(READ ${README} readme)
file(READ ${CODE} code)
string(FIND "${readme}" "${code}" place)
if(place EQUAL -1)
  message(FATAL_ERROR "${README} does not hold ${CODE} as it stands; copy it there")
endif()
