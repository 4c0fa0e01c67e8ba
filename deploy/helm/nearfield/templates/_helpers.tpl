{{/* Names, labels, and what both workloads have in common. */}}

{{- define "nearfield.name" -}}
{{- if contains "nearfield" .Release.Name }}{{ .Release.Name }}{{ else }}{{ .Release.Name }}-nearfield{{ end }}
{{- end }}

{{- define "nearfield.central" -}}
{{ include "nearfield.name" . | trunc 52 | trimSuffix "-" }}-central
{{- end }}

{{- define "nearfield.edge" -}}
{{ include "nearfield.name" . | trunc 52 | trimSuffix "-" }}-edge
{{- end }}

{{/* Called with (list $ "central"). */}}
{{- define "nearfield.selector" -}}
{{- $part := index . 1 }}
{{- with index . 0 -}}
app.kubernetes.io/name: nearfield
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: {{ $part }}
{{- end }}
{{- end }}

{{- define "nearfield.labels" -}}
{{ include "nearfield.selector" . }}
{{- with index . 0 }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}
{{- end }}

{{/* Called with (list $ "central"). */}}
{{- define "nearfield.image" -}}
{{- $part := index . 1 }}
{{- with (index . 0).Values.image }}
{{- $name := get . $part }}
{{- $digest := get . (printf "%sDigest" $part) }}
{{- if $digest }}{{ $name }}@{{ $digest }}{{ else }}{{ $name }}:{{ .tag | default (index $ 0).Chart.AppVersion }}{{ end }}
{{- end }}
{{- end }}

{{- define "nearfield.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "nearfield.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
capabilities:
  drop: [ALL]
{{- end }}

{{/* Called with (list $ "edge"): pods of one part do not share a node, or a zone, while there is another. */}}
{{- define "nearfield.spread" -}}
{{- $given := . }}
{{- range $key := list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
- maxSkew: 1
  topologyKey: {{ $key }}
  whenUnsatisfiable: ScheduleAnyway
  labelSelector:
    matchLabels:
      {{- include "nearfield.selector" $given | nindent 6 }}
{{- end }}
{{- end }}

{{/* Called with (list $ "edge"): pods avoid a node that has one already. */}}
{{- define "nearfield.antiAffinity" -}}
podAntiAffinity:
  preferredDuringSchedulingIgnoredDuringExecution:
    - weight: 100
      podAffinityTerm:
        topologyKey: kubernetes.io/hostname
        labelSelector:
          matchLabels:
            {{- include "nearfield.selector" . | nindent 12 }}
{{- end }}

{{- define "nearfield.ingress" -}}
{{- $part := index . 1 }}
{{- $name := index . 2 }}
{{- $given := . }}
{{- with (get (index . 0).Values $part) }}
{{- $host := required (printf "%s.ingress.host is needed for an ingress" $part) .ingress.host -}}
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: {{ $name }}
  labels:
    {{- include "nearfield.labels" $given | nindent 4 }}
  {{- with .ingress.annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  {{- with .ingress.className }}
  ingressClassName: {{ . }}
  {{- end }}
  rules:
    - host: {{ $host | quote }}
      http:
        paths:
          - path: /
            pathType: Prefix
            backend:
              service:
                name: {{ $name }}
                port:
                  name: http
  {{- with .ingress.tlsSecret }}
  tls:
    - hosts: [{{ $host | quote }}]
      secretName: {{ . }}
  {{- end }}
{{- end }}
{{- end }}

{{/* What a chart can see to be wrong before anything is made. */}}
{{- define "nearfield.check" -}}
{{- with .Values.edge }}
{{- if .enabled }}
{{- if not $.Values.publicKey }}
{{- fail "publicKey is needed by the edge: `nearfield-central keys init --data DIR` makes the keys and prints it" }}
{{- end }}
{{- $redb := eq .users.where "redb" }}
{{- if and $redb (or (gt (int .replicas) 1) (ne .autoscaling.by "none")) }}
{{- fail "edge: users on redb are one file of one host: edge.replicas above 1 and edge.autoscaling need edge.users.where=redis" }}
{{- end }}
{{- if and (not $redb) (not .users.redis.address) (not .users.redis.secret.name) }}
{{- fail "edge.users.redis.address, or edge.users.redis.secret.name, is needed for users in Redis" }}
{{- end }}
{{- if gt (int .autoscaling.minReplicas) (int .autoscaling.maxReplicas) }}
{{- fail (printf "edge.autoscaling.minReplicas (%d) is above maxReplicas (%d)" (int .autoscaling.minReplicas) (int .autoscaling.maxReplicas)) }}
{{- end }}
{{- if and (or .kafka.consume .kafka.produce) (or (not .kafka.brokers) (not .kafka.topics)) }}
{{- fail "edge.kafka.brokers and edge.kafka.topics are needed to consume or produce" }}
{{- end }}
{{- if and .kafka.features (not .kafka.consume) }}
{{- fail "edge.kafka.features needs edge.kafka.consume: features are of consumed events" }}
{{- end }}
{{- if and (not $.Values.central.enabled) (not .central) }}
{{- fail "edge.central is needed where central.enabled is false" }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
