# The cluster's certificates and the files that hold them for its programs, made anew for every run. Sourced.
# shellcheck shell=bash disable=SC2154

pki=/etc/kubernetes/pki
server=https://192.0.2.10:6443

quietly() { "$@" 2>/run/openssl.out || { cat /run/openssl.out && return 1; }; }

# certificate NAME SUBJECT [ALTERNATIVE NAMES]: a key and a certificate of the cluster's authority.
certificate() {
  local file=$pki/$1
  quietly openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$file.key" -out "$file.csr" -subj "$2"
  quietly openssl x509 -req -in "$file.csr" -CA $pki/ca.crt -CAkey $pki/ca.key -CAcreateserial -days 2 -out "$file.crt" \
    -extfile <(printf 'extendedKeyUsage = clientAuth, serverAuth\n%s\n' "${3:+subjectAltName = $3}")
}

# kubeconfig NAME SUBJECT: prints the name of a file that lets its bearer into the cluster.
kubeconfig() {
  certificate "$1" "$2"
  kubectl config --kubeconfig "/etc/kubernetes/$1.conf" set-cluster cluster --server $server --certificate-authority $pki/ca.crt
  kubectl config --kubeconfig "/etc/kubernetes/$1.conf" set-credentials "$1" --client-certificate "$pki/$1.crt" --client-key "$pki/$1.key"
  kubectl config --kubeconfig "/etc/kubernetes/$1.conf" set-context cluster --cluster cluster --user "$1"
  kubectl config --kubeconfig "/etc/kubernetes/$1.conf" use-context cluster
}

make_certificates() {
  mkdir -p $pki
  quietly openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout $pki/ca.key -out $pki/ca.crt -days 2 -subj /CN=cluster
  quietly openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out $pki/accounts.key
  openssl pkey -in $pki/accounts.key -pubout -out $pki/accounts.pub
  certificate apiserver /CN=kube-apiserver \
    "DNS:localhost, DNS:kubernetes, DNS:kubernetes.default.svc, IP:127.0.0.1, IP:192.0.2.10, IP:10.96.0.1"
  certificate kubelet-server /CN=node1 "DNS:node1, IP:192.0.2.10"
  certificate kubelet-client /O=system:masters/CN=kube-apiserver-kubelet-client
  {
    kubeconfig admin /O=system:masters/CN=admin
    kubeconfig controller-manager /CN=system:kube-controller-manager
    kubeconfig scheduler /CN=system:kube-scheduler
    kubeconfig proxy /CN=system:kube-proxy
    kubeconfig kubelet /O=system:nodes/CN=system:node:node1
  } >/dev/null
}
